"""How far a command is: a line that a terminal writes over, or whole lines now and then."""

import sys
import time

_SECONDS_BETWEEN_LINES = 5.0


def show_progress(text: str, *, is_last: bool) -> None:
    """Overwrite the previous line in a terminal; a log gets the last one alone.

    Args:
        text: no shorter than the one before.
        is_last: of this line.
    """
    if sys.stdout.isatty():
        print(f"\r{text}", end="\n" if is_last else "", flush=True)
    elif is_last:
        print(text, flush=True)


class NowAndThen:
    """When a whole line is due again: some seconds after the one before, so that quick work says nothing."""

    def __init__(self) -> None:
        """The first line is due some seconds from now."""
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether a line is due; the caller then writes it."""
        now = time.monotonic()
        if now - self._last <= _SECONDS_BETWEEN_LINES:
            return False
        self._last = now
        return True
