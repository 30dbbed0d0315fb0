"""Progress in a real pseudo-terminal: lines that are renewed, and a terminal that is left as it was."""

import os
import pty
import re
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOWS, HIDES = b"\x1b[?25h", b"\x1b[?25l"
PROGRAM = """
import os, pickle, signal, sys
from types import SimpleNamespace
from dynrcnn_ray.config.sections import TrainConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.progress import ProgressLines
from dynrcnn_ray.config.trial import Trial

train, several = TrainConfig(steps=200), "several" in sys.argv
jobs = {
    name: TrialJob(Trial(TrialConfig(train=train, seed=seed if several else 0)), "table3", name, "storage")
    for seed, name in enumerate(["baseline", "DLA with a very long name that does not fit on the line of a terminal"])
}
trials = [SimpleNamespace(trial_id=name, config={"trial": name}, last_result={}) for name in jobs]
row = {"loss": 1.0, "T_now": 0.4, "beta_now": 1.0, "positives": 2.0, "images_per_second": 9.0}
with ProgressLines(2, jobs, lambda name: [f"table after {name}"]) as progress:
    pickle.dumps(progress)  # As Tune does.
    for trial in trials:
        progress.on_trial_start(0, trials, trial)
    for step in (50, 100):
        for trial in trials:
            progress.on_trial_result(0, trials, trial, row | {"step": step})
    progress.on_trial_result(0, trials, trials[0], {"ending": "finished"})
    progress.on_trial_result(0, trials, trials[1], {"note": "a note"})
    if "interrupted" in sys.argv:
        os.kill(os.getpid(), signal.SIGINT)
print("after")
"""


def in_terminal(*arguments: str, kind: str = "xterm-256color") -> tuple[int, bytes]:
    """The exit code of a program in a terminal of 80 columns, and what it wrote."""
    pid, terminal = pty.fork()
    if not pid:  # pragma: no cover - the program's process.
        # Tests that run in the background ignore it, and so would the program.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.environ.update({"TERM": kind, "COLUMNS": "80", "LINES": "24", "PYTHONPATH": str(ROOT)})
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, *arguments])
    written = b""
    while True:
        try:
            written += (part := os.read(terminal, 65536))
        except OSError:  # So Linux says that nobody writes any more.
            break
        if not part:
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written


def lines_left(written: bytes) -> list[str]:
    """What a terminal shows at the end: each line up to where it was erased last."""
    screen: list[str] = [""]
    at = 0
    text = written.decode()
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            at += 1
            screen += [""] * (at + 1 - len(screen))
        elif part == "\x1b[2K":
            screen[at] = ""
        elif re.fullmatch(r"\x1b\[\d*A", part):
            at -= int(part[2:-1] or 1)
        elif part[0] not in "\x1b\r":
            screen[at] += part
    return [line for line in screen if line]


@pytest.mark.slow
def test_a_line_a_trial_is_renewed_and_nothing_of_them_stays():
    code, written = in_terminal("several")
    assert code == 0
    text = re.sub(" +", " ", written.decode())
    assert "[1/2] baseline, se… 100/200 loss 1.000 T_now 0.400 9.0 images/s left 2m58s" in text
    assert re.search(r"\[2/2\] DLA with .*… 100/200 loss 1.000 T_now 0.400 9.0 images/s", text)
    assert "0/2 trials" in text
    assert "1/2 trials" in text
    done, table, note, after = lines_left(written)
    assert re.fullmatch(r"\[1/2\] baseline, seed 0 +done", done)
    assert (table, after) == ("table after baseline", "after")
    assert note.endswith("terminal, seed 1 a note"), "what stays is whole, however long"
    assert written.count(HIDES) == written.count(SHOWS) == 1
    assert written.index(HIDES) < written.index(SHOWS)


@pytest.mark.slow
def test_a_seed_that_all_have_is_not_repeated():
    _, written = in_terminal()
    assert "[1/2] baseline  100/200  loss 1.000  T_now 0.400" in written.decode()


@pytest.mark.slow
def test_ctrl_c_leaves_the_terminal_as_it_was():
    code, written = in_terminal("interrupted")
    assert code in (1, -signal.SIGINT)
    assert written.count(HIDES) == written.count(SHOWS) == 1
    assert b"KeyboardInterrupt" in written[written.index(SHOWS) :], "it is told below what was erased"
    assert not any("T_now" in line for line in lines_left(written))


@pytest.mark.slow
def test_a_terminal_that_cannot_renew_lines_has_plain_ones():
    code, written = in_terminal(kind="dumb")
    assert code == 0
    assert b"\x1b" not in written
    lines = written.decode().splitlines()
    assert re.fullmatch(r"\[1/2\] baseline, seed 0 +starts: trial [0-9a-f]{12}, 200 steps", lines[0])
    assert re.match(r"\[1/2\] baseline, seed 0 +step  50/200  loss 1.000  T_now 0.400  beta_now 1.000  pos", lines[2])
