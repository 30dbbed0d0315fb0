"""Claims as a grid's file or a module states them: lines, with words for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrcnn_ray.config.validation import ConfigError

WORDS = "claim"
"""Where a claim is a mapping: its name for what it says in words."""


@dataclass(frozen=True)
class StatedClaim:
    """A claim as somebody wrote it.

    Attributes:
        line: what is claimed, see above.
        words: the same for people; may be empty.
    """

    line: str
    words: str = ""


def stated_claims(given: Any) -> list[StatedClaim]:
    """Claims from what a grid's file or a module says.

    Args:
        given: a text with a claim a line; or claims, each a line or a mapping of its comparisons by metric, with its
            words under `claim`: {"AP": "both > baseline", "claim": "Both parts gain"}.

    Raises:
        ConfigError: it is none of these, or a claim stands twice.
    """
    if isinstance(given, str):
        given = [line for line in given.splitlines() if line.strip()]
    if not isinstance(given, Sequence):
        raise ConfigError(f"claims: {given!r} must be a list of claims, or a text with a claim a line")
    claims = [_stated(each) for each in given]
    lines = [claim.line for claim in claims]
    if twice := [line for line in lines if lines.count(line) > 1]:
        raise ConfigError(f"claims: {twice[0]!r} stands twice; leave one out")
    return claims


def _stated(given: Any) -> StatedClaim:
    texts = given.values() if isinstance(given, Mapping) else [given]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ConfigError(
            f"claims: {given!r} must be a line such as 'AP: both > baseline', or such comparisons by metric, with the "
            f"claim's words under `{WORDS}`"
        )
    if not isinstance(given, Mapping):
        return StatedClaim(" ".join(given.split()))
    line = "; ".join(f"{metric}: {text}" for metric, text in given.items() if metric != WORDS)
    if not line:
        raise ConfigError(
            f"claims: {given[WORDS]!r} has words alone; add what is compared, such as AP: both > baseline"
        )
    return StatedClaim(" ".join(line.split()), " ".join(given.get(WORDS, "").split()))
