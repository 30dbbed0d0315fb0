"""Commands that somebody ends, and outputs that cannot take what they print: real processes, without Ray."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from dynrcnn_ray.store.results_store import ResultStore
from tests.execution.commands import REPOSITORY, read_until, start_command
from tests.stored_table import dynamics_rows, table3_plan, trial_row


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_in_one_line(tmp_path: Path, number: signal.Signals, code: int):
    """Both arrive twice, as from `timeout`, which sends to the process and to its group."""
    arguments = ["train", "--scale", "mini", "--model.weights", "none", "--storage", str(tmp_path / "store")]
    process = start_command(tmp_path, *arguments)
    read_until(process, "Generating 2300 images")
    process.send_signal(number)
    process.send_signal(number)
    out, _ = process.communicate()
    assert out == "interrupted\n"
    assert process.returncode == code


_WAITS_IN_COMPILED_CODE = """
import signal, sys
from dynrcnn_ray.cli.signals import run_command

def main(arguments):
    try:
        signal.raise_signal(int(arguments[0]))
    except KeyboardInterrupt:
        pass
    raise KeyboardInterrupt

sys.exit(run_command(main, sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_that_lost_its_number_has_the_code_of_the_signal(number: signal.Signals, code: int):
    """As from `ray.get`, which raises an interrupt of its own."""
    command = [sys.executable, "-c", _WAITS_IN_COMPILED_CODE, str(int(number))]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "interrupted\n")


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_ends_a_command_without_a_word(tmp_path: Path):
    for arguments in (("list", "--scale", "smoke"), ("table3", "--help")):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as closed:
            # Matplotlib tells of fonts that it has to look for.
            fonts = {"MPLCONFIGDIR": matplotlib.get_cachedir()}
            process = start_command(tmp_path, *arguments, stdout=closed, stderr=subprocess.PIPE, **fonts)
        _, err = process.communicate()
        assert err == ""
        assert process.returncode == 141


@pytest.mark.slow
def test_a_table_prints_where_the_output_is_not_utf8(tmp_path: Path):
    store = ResultStore.open(tmp_path / "störe")
    store.write_plan("table3", table3_plan())
    for line in table3_plan():
        store.write_trial(trial_row(line["trial_id"], seed=line["seed"]))
        store.write_dynamics(line["trial_id"], dynamics_rows(line["row"], line["seed"]))
    process = start_command(tmp_path, "report", "--storage", store.files.root, PYTHONIOENCODING="ascii")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert "50.0 ? 0.0" in out
    assert f"{tmp_path}/st?re/tables/table3.md" in out


def test_a_home_that_is_read_only_costs_nothing(tmp_path: Path):
    """Nobody can write into /proc, root neither."""
    environment = {"HOME": "/proc", "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    process = start_command(tmp_path, "check-data", "--scale", "smoke", **environment)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert out.startswith(f"Cached files go to {tmp_path}/dynrcnn_ray_{os.getuid()}: /proc/.cache cannot be written.\n")
    assert "\nA run would take this data set.\n" in out
