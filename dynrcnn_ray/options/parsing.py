"""Arguments parsed by tyro, and refused in one line."""

import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options import tyro_private
from dynrcnn_ray.options.command import Command, Group, Program, shown_call

_Options = TypeVar("_Options")


def parse(program: Program, arguments: Sequence[str]) -> tuple[Command[Any], Any]:
    """The command that the arguments name, and its options.

    Raises:
        ConfigError: an unknown command, an unknown flag or a wrong value, in one line.
        SystemExit: after `--help`, or a script for the shell's completion.
    """
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(overview(program))
        raise SystemExit(0)
    if name.startswith("-"):
        _cli(_all_commands(program), arguments, [], prog=program.name, description=program.description)
        raise SystemExit(0)
    by_name = {command.name: command for command in program.commands}
    if name not in by_name:
        similar = difflib.get_close_matches(name, by_name, n=1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise ConfigError(f"unknown command {name!r}{hint}; allowed: {', '.join(by_name)}")
    command = by_name[name]
    if command.former and (today := list(command.former(rest))) != rest:
        raise ConfigError(f"{name}: is written otherwise now: {shown_call(name, today)}")
    default, rest = command.defaults(rest) if command.defaults else (command.options(), rest)
    options = parse_options(
        command.options, rest, prog=f"{program.name} {name}", description=command.description, default=default
    )
    return command, options


def parse_options(options: type[_Options], arguments: Sequence[str], **settings: Any) -> _Options:
    """The options that all of the arguments say; `settings` as tyro takes them.

    Raises:
        ConfigError: an unknown flag or a wrong value, in one line.
    """
    return _cli(options, arguments, sorted(flags(options)), **settings)


def overview(program: Program) -> str:
    """What `--help` of the program says: a line for each command, in groups."""
    width = max(len(command.name) for command in program.commands)
    lines = [f"usage: {program.name} COMMAND [OPTIONS]", "", program.description]
    for group in get_args(Group):
        lines += ["", f"{group}:"]
        lines += [f"  {each.name:<{width}}  {each.title}" for each in program.commands if each.group == group]
    return "\n".join(lines)


def _all_commands(program: Program) -> Any:
    """All commands as tyro's subcommands, for the shell's completion."""
    return Union[  # noqa: UP007
        tuple(
            Annotated[each.options, tyro.conf.subcommand(each.name, description=each.title)]
            for each in program.commands
        )
    ]


def parse_first(options: type[_Options], arguments: Sequence[str]) -> tuple[_Options, list[str]]:
    """The flags of `options` alone, and the arguments that are left.

    Raises:
        ConfigError: a wrong value, in one line.
    """
    return _cli(options, arguments, [], add_help=False, return_unknown_args=True)


def _cli(options: Any, arguments: Sequence[str], flags: Sequence[str], **settings: Any) -> Any:
    def refuse(event: tyro_private.ParseErrorEvent) -> None:
        if line := _one_line(event, flags):
            raise ConfigError(line)

    with tyro_private.on_parse_error(refuse):
        try:
            return tyro.cli(options, args=list(arguments), **settings)
        except ImportError:  # Tyro leaves tcsh to another package.
            raise ConfigError("--tyro-print-completion: not for this shell; allowed: bash, zsh, fish") from None


def _one_line(event: tyro_private.ParseErrorEvent, flags: Sequence[str]) -> str:
    """What is wrong and what is allowed; empty for an event of a later tyro, which then prints it itself."""
    if isinstance(event, tyro_private.UnrecognizedArgs):
        similar = difflib.get_close_matches(event.tokens[0].partition("=")[0], flags, n=1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        return f"unknown option: {', '.join(event.tokens)}{hint}"
    if isinstance(event, tyro_private.InvalidChoice):
        return f"{event.argument.display_name()}: {event.value!r} is not allowed; allowed: {', '.join(event.choices)}"
    if isinstance(event, tyro_private.BadValue):
        given = f" {event.offending_value!r} is not allowed" if event.offending_value else " the value is missing"
        return f"{event.argument.display_name()}:{given} (allowed: {_allowed(event.argument)})"
    if isinstance(event, tyro_private.InstantiationFailure) and event.argument:
        value = re.fullmatch(r".*: ('.*')", event.message)
        message = f"{value[1]} is not allowed" if value else event.message
        return f"{event.argument.display_name()}: {message} (allowed: {_allowed(event.argument)})"
    return ""


def _allowed(argument: Any) -> str:
    return f"{argument.display_name()} {argument.lowered.metavar}"


def flags(options: type[Any], prefix: str = "--") -> Iterator[str]:
    """Every flag of an options class, as it is typed."""
    for item in dataclasses.fields(options):
        of_tyro = getattr(item.type, "__metadata__", ())
        if tyro.conf.Positional in of_tyro or tyro.conf.Suppress in of_tyro:
            continue
        own = next((each.name for each in of_tyro if getattr(each, "name", None)), item.name)
        name = f"{prefix}{own.replace('_', '-')}"
        if isinstance(item.type, type) and dataclasses.is_dataclass(item.type):
            yield from flags(item.type, f"{name}.")
        else:
            yield name
