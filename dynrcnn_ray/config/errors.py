"""The base of the project's errors, and an error as a part of a line."""

import re

_TRACEBACK = "Traceback (most recent call last)"
_LONGEST_LINE = 500


class DynrcnnError(Exception):
    """Any error of the project's own. One that is a `ValueError` too is a user's mistake, told without a traceback.

    Attributes:
        would_repeat: whether another attempt would only repeat it, as nothing but a person can change the cause. Every
            class says so itself.
    """

    would_repeat: bool = False


def one_line(error: BaseException, at_most: int | None = None) -> str:
    """What an error says, as a part of a line; the name of its type where it says nothing.

    Args:
        error: any.
        at_most: characters; None: all.
    """
    return (" ".join(str(error).split()) or type(error).__name__)[:at_most]


def system_line(error: BaseException, at_most: int | None = None) -> str:
    """As `one_line`, without the number and the file that an error of the system names: the line has the file."""
    return str(getattr(error, "strerror", None) or one_line(error))[:at_most]


def innermost_line(error: BaseException | str, at_most: int = _LONGEST_LINE) -> str:
    """An error in one line: its type and its text; of a text that holds tracebacks, what the last of them ends with.

    PyTorch's loaders hand on an error of another process as the text of its traceback.

    Args:
        error: or what was printed of one.
        at_most: characters.
    """
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    if _TRACEBACK in text:
        lines = text.rstrip().splitlines()
        last_frame = max(index for index, line in enumerate(lines) if line.startswith((" ", _TRACEBACK)))
        # The type stands there with its module.
        text = re.sub(r"^(\w+\.)+(?=\w+(:|$))", "", "\n".join(lines[last_frame + 1 :])) or text
    return " ".join(text.split()).removesuffix(":")[:at_most]
