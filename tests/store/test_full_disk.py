"""A disk without room: each command says so in a line, and what was there stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from dynrcnn_ray.store.results_store import ResultStore

REPOSITORY = Path(__file__).resolve().parents[2]
# The operating system refuses to let a file grow, as it does on a full disk.
FULL_DISK = """
import resource, sys
sys.path.insert(0, ".")
from tests.stored_table import dynamics_rows, trial_row
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
store = ResultStore.open(sys.argv[1])
for write in (
    lambda: store.write_dynamics("row0seed0", [{"step": 20, "T_now": 0.9}] * 5),
    lambda: store.write_trial(trial_row("row0seed0", AP=1.0)),
    lambda: store.write_trial(trial_row("new")),
):
    try:
        write()
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
print(main(["report", "--storage", sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_full_disk_is_reported_in_a_line_and_costs_nothing_that_was_there(table3_store: ResultStore) -> None:
    root = Path(table3_store.files.root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    command = [sys.executable, "-c", FULL_DISK, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)

    dynamics, trial, new, report = done.stderr.splitlines()
    for line, file in (
        (dynamics, "dynamics/row0seed0.parquet"),
        (trial, "trials/row0seed0.parquet"),
        (new, "trials/new.parquet"),
        (report, "tables/table3.parquet"),
    ):
        assert line.startswith(f"error: {root}/{file} cannot be written: ")
        assert "File too large" in line
        assert line.endswith("; make room, free the path or choose another storage")
    assert done.stdout.splitlines()[-1] == "2"
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
