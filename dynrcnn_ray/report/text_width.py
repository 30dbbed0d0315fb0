"""How much room a text takes where every letter is as wide as another, and texts that fit a room.

Room is counted in columns: a letter takes one, a Chinese, Japanese or Korean one two.
"""

import re
import unicodedata
from collections.abc import Iterator

_ELLIPSIS = "…"


def width_of(text: str) -> int:
    """Its columns."""
    return sum(_columns(letter) for letter in text)


def shortened(text: str, room: int) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis."""
    if width_of(text) <= room:
        return text
    return next(_pieces(text, max(1, room - 1))).rstrip() + _ELLIPSIS


def folded(text: str, room: int) -> str:
    """The text in lines that fit, broken between words where that is possible."""
    lines = [""]
    for word in re.split(r"(?<=\s)", text):
        for piece in _pieces(word, room):
            if lines[-1] and width_of(lines[-1] + piece.rstrip()) > room:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _pieces(text: str, room: int) -> Iterator[str]:
    """The text in parts that fit; a single letter always does."""
    piece = ""
    for letter in text:
        if piece and width_of(piece + letter) > room:
            yield piece
            piece = ""
        piece += letter
    yield piece


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
