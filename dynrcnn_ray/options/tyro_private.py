"""All that is used of tyro and is not its public API: how it tells what it refuses. Tyro is pinned to one release."""

from tyro._errors import (
    BadValue,
    InstantiationFailure,
    InvalidChoice,
    ParseErrorEvent,
    UnrecognizedArgs,
    on_parse_error,
)

__all__ = ["BadValue", "InstantiationFailure", "InvalidChoice", "ParseErrorEvent", "UnrecognizedArgs", "on_parse_error"]
