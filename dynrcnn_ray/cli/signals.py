"""How a command ends on Ctrl-C, on SIGTERM, or when the pipe that it prints to is closed.

Each is one line on the standard error, and the exit code that shells give: 130, 143, 141. A note on the
`KeyboardInterrupt` says what goes on from where. A closed pipe is told only where there is such a note: after
`| head -1` the reader has left on purpose.
"""

import contextlib
import io
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from dynrcnn_ray.cli.cache_folder import use_a_cache_that_can_be_written

_SECONDS_OF_THE_SAME_END = 2.0
"""`timeout` and others send a signal twice, to the process and to its group; a later one is another request."""


def run_command(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command as this process's only work.

    Args:
        main: runs it, and returns the exit code. It imports slow modules late, so that Ctrl-C is handled meanwhile.
        arguments: of the command line.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or a log that lacks a character of a table still gets the rest.
            stream.reconfigure(errors="replace")
    signals: list[int] = []
    _end_on(signal.SIGTERM, signals)
    # A shell's background jobs ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        _end_on(signal.SIGINT, signals)
    try:
        use_a_cache_that_can_be_written()
        code = main(arguments)
        if sys.stdout:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        _print_end("; ".join(["interrupted", *getattr(interrupt, "__notes__", [])]))
        # Ray raises one of its own, without a number, where a signal finds it waiting in compiled code.
        return 128 + next(iter([*interrupt.args, *signals]), signal.SIGINT)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 128 + signal.SIGPIPE
    finally:
        if sys.stdout and _nobody_reads():
            # Python flushes once more when it exits, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_on(number: signal.Signals, signals: list[int]) -> None:
    last = -_SECONDS_OF_THE_SAME_END

    def end(_number: int, _frame: Any) -> None:
        nonlocal last
        is_again = time.monotonic() - last < _SECONDS_OF_THE_SAME_END
        last = time.monotonic()
        if not is_again:
            signals.append(number)
            raise KeyboardInterrupt(number)

    signal.signal(number, end)


def _print_end(line: str) -> None:
    # The standard error may be the same closed pipe.
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _nobody_reads() -> bool:
    """Whether the standard output is a pipe without a reader."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
