"""Every command that a document, a file of a grid or a `--help` shows is one that the program takes, today."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dynrcnn_ray.cli.program import program
from dynrcnn_ray.execution.grid_command import GridOptions, grid_of
from dynrcnn_ray.options.parsing import parse
from dynrcnn_ray.options.shared import RunOptions
from dynrcnn_ray.store.results_store import ResultStore

ROOT = Path(__file__).parents[2]
ROOMS = ("docs", "cluster", "experiments")
PROGRAM = program()
CALL = re.compile(r"^(?:dynrcnn|python -m dynrcnn_ray|.*python experiments/main\.py) (.*)")
TO_BE_FILLED_IN = re.compile(r"\bTRIAL\b|\blast\b|\bmy_grid\.yaml|\bmine\.pth|\.\.\.|[$\[|]")
"""A trial, a file or an experiment of the reader's."""


def lines_of(file: Path) -> Iterator[str]:
    """Lines for the shell: of a page's blocks, and of what a file of YAML says of its command."""
    text = file.read_text()
    if file.suffix == ".md":
        yield from "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ").splitlines()
    else:
        whole = re.sub(r"\n# {2,}+(?!dynrcnn|python)", " ", text)
        yield from re.findall(r"^#(?: Command:)? +((?:dynrcnn|python) .*)", whole, re.MULTILINE)


def shown() -> Iterator[tuple[str, str]]:
    """Where a command stands, and its arguments."""
    files = [file for room in ROOMS for kind in ("*.md", "*.yaml") for file in (ROOT / room).rglob(kind)]
    told = [
        (file.relative_to(ROOT).as_posix(), line) for file in [ROOT / "README.md", *files] for line in lines_of(file)
    ]
    told += [(each.name, line.strip()) for each in PROGRAM.commands for line in each.description.splitlines()]
    for where, line in told:
        if (call := CALL.match(line)) and not TO_BE_FILLED_IN.search(call[1]):
            yield where, call[1]


@pytest.mark.parametrize(("where", "arguments"), sorted(set(shown())))
def test_a_shown_command_is_taken(where: str, arguments: str, monkeypatch: pytest.MonkeyPatch):
    """Its flags, and the trials that it describes."""
    monkeypatch.chdir(ROOT)
    try:
        _, options = parse(PROGRAM, shlex.split(arguments, comments=True))
    except SystemExit:  # --help
        return
    if isinstance(options, GridOptions) and not options.module:
        grid_of(options).experiment(PROGRAM.table_names()).rows(options.config())
    elif isinstance(options, RunOptions):
        options.config()


def test_there_are_many():
    assert len({arguments for _, arguments in shown()}) > 80


@pytest.mark.parametrize("name", ["reference_voc", "reference_voc_cpu"])
def test_the_configuration_of_stored_trials_is_theirs(name: str, monkeypatch: pytest.MonkeyPatch):
    """A command with it finds them in their store, and trains what is missing beside them."""
    monkeypatch.chdir(ROOT)
    _, options = parse(PROGRAM, ["table3", "--config", f"experiments/{name}/config.yaml"])
    stated, store = options.config(), ResultStore.open(ROOT / "experiments" / name)
    plan = store.plan("table3")
    assert plan is not None
    for row in store.trials(plan["trial_id"]).to_dict("records"):
        stored = store.trial_of(row).config
        assert stored.train == stated.train
        assert stored.test == stated.test
        assert replace(stored.model, weights="") == replace(stated.model, weights="")
        assert replace(stored.dynamic, dla=True, dsl=True) == stated.dynamic
