"""How far a command is, in a terminal and in a log."""

import os
import pty
import subprocess
import sys

from dynrcnn_ray.options import progress
from dynrcnn_ray.options.progress import NowAndThen

COUNTS = (
    "from dynrcnn_ray.options.progress import show_progress\n"
    "for done in (1, 2, 3):\n"
    "    show_progress(f'{done}/3 images', is_last=done == 3)\n"
)


def test_a_terminals_line_is_written_over_and_ended():
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", COUNTS], stdout=theirs, check=True)
    os.close(theirs)
    seen = os.read(ours, 1000)
    os.close(ours)
    assert seen == b"\r1/3 images\r2/3 images\r3/3 images\r\n"


def test_a_log_has_the_last_line_alone():
    assert subprocess.run([sys.executable, "-c", COUNTS], capture_output=True, check=True).stdout == b"3/3 images\n"


def test_a_line_is_due_some_seconds_after_the_one_before(monkeypatch):
    times = iter((100.0, 101.0, 104.9, 105.1, 106.0, 110.0, 110.2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    lines = NowAndThen()
    assert [lines.is_due() for _ in range(6)] == [False, False, True, False, False, True]
