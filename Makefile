# Every target sets itself up: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
CODE := dynrcnn_ray experiments benchmarks tests docs/theme
# Two processes; a file's tests stay together, in the order of the files: those that start Ray do not come last.
# One thread each, also in the commands that tests start: a second thread would wait for a core that the other test has.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: help install demo test check types fast_tests docs gpu format clean

help:
	@echo "make demo    install, then train and print Table 3 at scale mini (8 min 15 s on two cores)"
	@echo "make test    install, then run all tests"
	@echo "make check   format, lint, import layers, types and the fast tests"
	@echo "make docs    build the documentation into site/, with search and the API"
	@echo "make gpu     what to run first on a machine with a GPU: tests and benchmarks, three and a half minutes on an H100"
	@echo "make format  rewrite the code in the project's format"
	@echo "make clean   remove .venv and caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

demo: install
	$(BIN)/python experiments/main.py table3

test: install
	$(PYTEST)

check: install
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory --jobs 2 types fast_tests

types: install
	$(BIN)/pyright --pythonpath $(BIN)/python

fast_tests: install
	$(PYTEST) -m "not ray and not slow and not benchmark and not gpu"

# Warnings, broken links among them, are errors (with --quiet they would not be). The variable turns off an advertisement of another program.
docs: install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open site/index.html in a browser; search works there too. While writing: $(BIN)/mkdocs serve"

# Results go to gpu_results/, each as soon as it is there; a part that fails does not keep the others from running.
# ResNet-50 at the paper's size needs neither weights nor COCO here: its speed is the same.
GPU_STORE := gpu_results
gpu: install
	@if reason=$$($(BIN)/python -c "$$ASK_FOR_A_GPU"); then \
	  failed=; \
	  $(BIN)/python -m pytest -q -m gpu tests/gpu --junit-xml $(GPU_STORE)/tests.xml || failed="$$failed tests"; \
	  $(BIN)/python experiments/main.py benchmark --device cuda --rounds 60 --storage $(GPU_STORE) || \
	    failed="$$failed benchmark"; \
	  $(BIN)/python experiments/main.py table7 --scale coco --rounds 20 --data.root "" --data.train-split train \
	    --data.val-split val --model.weights none --model.norm group_norm --storage $(GPU_STORE) || \
	    failed="$$failed table7"; \
	  test -z "$$failed" || { echo "make gpu: failed:$$failed"; exit 1; }; \
	else echo "make gpu: skipped, nothing was measured. $$reason"; fi

define ASK_FOR_A_GPU
import sys
from dynrcnn_ray.training.environment import DeviceError, require_gpu
try:
    require_gpu()
except DeviceError as error:
    print(error)
    sys.exit(1)
endef
export ASK_FOR_A_GPU

format: install
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache build dist site *.egg-info
