"""Arguments that earlier releases took, as they are written now."""

from collections.abc import Sequence

_FLAGS = {"--trial": "", "--data-root": "--data.root"}
"""Flags of before, and what stands in their place. Of one without any the value comes first, without a flag."""
_PLACEHOLDERS = {"--trial": "TRIAL", "--data-root": "DIR"}


def with_flags_of_today(arguments: Sequence[str]) -> list[str]:
    """The arguments with the flags of today; those that have none of before stay as they are."""
    first: list[str] = []
    others: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, has_value, value = argument.partition("=")
        flag = name.replace("_", "-")
        if flag not in _FLAGS:
            others.append(argument)
            continue
        if not has_value:
            value = next(left, _PLACEHOLDERS[flag])
        if _FLAGS[flag]:
            others += [_FLAGS[flag], value]
        else:
            first.append(value)
    return [*first, *others]
