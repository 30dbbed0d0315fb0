"""What a command is, and the program that holds them."""

import importlib
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from dynrcnn_ray.config.uris import shown_uri

PROGRAM_NAME = "dynrcnn"
_Options = TypeVar("_Options")

Group = Literal[
    "Reproduce the paper",
    "Your own experiment",
    "Look at results",
    "Use a detector",
    "Data",
    "For developers",
]
"""The headings of the program's help, in its order."""


def function_named(name: str) -> Callable[..., Any]:
    """A function that is imported when it is called for: the modules of commands stay light, and `--help` quick.

    Args:
        name: its module and its own name, with a colon between them.
    """
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


@dataclass(frozen=True)
class Command(Generic[_Options]):
    """One command.

    Attributes:
        name: what is typed.
        group: below which heading the program's help lists it.
        title: what it does, in a line.
        description: what its `--help` says first.
        options: a dataclass whose fields are its flags; each has a default.
        body: the function that does it, for `function_named`. It takes the options and the call, and returns the exit
            code: 0 done, 1 a trial failed, 2 the input was wrong.
        check: refuses options that cannot be used, by a `ConfigError`, before the body is imported.
        defaults: where some flags decide what the others start from: makes the defaults from these flags, and returns
            the arguments that are left.
        former: the arguments as they are written now, of those that an earlier release took; others as they are.
        tables: names of the tables and figures that it keeps in a store; a user's own may have none of them.
        page_section: where a store's page shows what the command leaves there: the function that makes the section of
            it, for `function_named`. It is a `report.html.sections.MakeSections`.
    """

    name: str
    group: Group
    title: str
    description: str
    options: type[_Options]
    body: str
    check: Callable[[_Options, "Call"], None] | None = None
    defaults: Callable[[Sequence[str]], tuple[_Options, Sequence[str]]] | None = None
    former: Callable[[Sequence[str]], Sequence[str]] | None = None
    tables: tuple[str, ...] = ()
    page_section: str = ""

    def run(self, options: _Options, call: "Call") -> int:
        """Check the options, then import the body and run it."""
        if self.check:
            self.check(options, call)
        return function_named(self.body)(options, call)


@dataclass(frozen=True)
class Program:
    """A command line.

    Attributes:
        name: how it is called.
        description: what its `--help` says first.
        commands: all that it has.
    """

    name: str
    description: str
    commands: tuple[Command[Any], ...]

    def table_names(self) -> frozenset[str]:
        """The names of tables and figures that its commands keep in a store."""
        return frozenset(name for each in self.commands for name in each.tables)

    def page_sections(self) -> list[Callable[..., Any]]:
        """What makes the sections of a store's page that commands bring."""
        return [function_named(each.page_section) for each in self.commands if each.page_section]


@dataclass(frozen=True)
class Call:
    """One call of a command.

    Attributes:
        command: its name.
        arguments: what stands after it.
        program: that it is a call of.
    """

    command: str
    arguments: tuple[str, ...]
    program: Program

    def shown(self, storage: str, place: str) -> str:
        """The call as it may stand in a table: a URI may carry credentials, which have no place there.

        Args:
            storage: the argument of `--storage`.
            place: what it names, without credentials.
        """
        arguments = [each.replace(storage, place) if "://" in storage else each for each in self.arguments]
        # Others may be URIs too.
        return shown_call(self.command, arguments)


def shown_call(command: str, arguments: Sequence[str]) -> str:
    """A call as it is typed, its URIs as they may be printed and stored."""
    shown = [re.sub(r"(?s)\w[\w+.-]*://.*", lambda uri: shown_uri(uri[0]), each) for each in arguments]
    return f"{PROGRAM_NAME} {shlex.join([command, *shown])}"
