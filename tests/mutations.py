"""Random damage to the bytes of a file, drawn by hypothesis."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

KINDS = ("flip", "flip", "set", "set", "zero", "cut out", "insert", "truncate", "lose the start", "append", "replace")


def mutate(draw: Callable[..., Any], content: bytes) -> bytes:
    """One to three kinds of damage, at random places."""
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        content = _mutate_once(draw, content)
    return content


def _mutate_once(draw: Callable[..., Any], content: bytes) -> bytes:
    kind = draw(st.sampled_from(KINDS))
    # From either end: headers and footers are where little is redundant.
    at = draw(st.integers(0, len(content)))
    at = at if draw(st.booleans()) else len(content) - at
    length = draw(st.sampled_from([1, 1, 2, 4, 16, 512]))
    before, here, after = content[:at], content[at : at + length], content[at + length :]
    if kind == "flip" and here:
        return before + bytes([here[0] ^ 1 << draw(st.integers(0, 7))]) + here[1:] + after
    if kind == "set":
        return before + draw(st.binary(min_size=len(here), max_size=len(here))) + after
    if kind == "zero":
        return before + bytes(len(here)) + after
    if kind == "cut out":
        return before + after
    if kind == "insert":
        return before + draw(st.binary(min_size=1, max_size=4)) + here + after
    if kind == "truncate":
        return before
    if kind == "lose the start":
        return content[at:]
    if kind == "append":
        return content + draw(st.binary(min_size=1, max_size=8))
    if kind == "replace":
        return draw(st.sampled_from([b"", b"PAR1", b"PK\x05\x06" + bytes(18), b"not what it was\n", bytes(4096)]))
    return content
