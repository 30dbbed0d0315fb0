"""What a command is, and the program that holds them: `dynrcnn`, or the paper's `experiments/main.py`."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dynrcnn_ray.experiment import Experiment

if TYPE_CHECKING:  # They take a second, and a wrong command should be refused at once.
    from dynrcnn_ray.results.findings import Finding
    from dynrcnn_ray.results.store import ResultStore

_Options = TypeVar("_Options")


@dataclass(frozen=True)
class Command(Generic[_Options]):
    """One command.

    Attributes:
        name: what is typed.
        title: what it does, in a line.
        description: what its `--help` says first.
        options: a dataclass whose fields are its flags; each has a default.
        run: does it, and returns the exit code: 0 done, 1 a trial failed, 2 the input was wrong.
        defaults: where some flags decide what the others start from: makes the defaults from these flags, and returns
            the arguments that are left.
        of_paper: it is about a paper's experiments, and so there only where the program has some.
    """

    name: str
    title: str
    description: str
    options: type[_Options]
    run: Callable[[_Options, "Call"], int]
    defaults: Callable[[Sequence[str]], tuple[_Options, Sequence[str]]] | None = None
    of_paper: bool = False


@dataclass(frozen=True)
class Paper:
    """What a program knows of a paper.

    Attributes:
        experiments: its tables and figures: what `all` runs.
        beside: experiments that are not in the paper.
        findings: makes its claims.
        rows: makes its numbers of each row, by experiment and row: what `read_numbers` looks for.
    """

    experiments: tuple[Experiment, ...]
    beside: tuple[Experiment, ...]
    findings: "Callable[[], Sequence[Finding]]"
    rows: Callable[[], Mapping[str, Mapping[int, Mapping[str, float]]]]


@dataclass(frozen=True)
class Program:
    """A command line.

    Attributes:
        name: how it is called.
        description: what its `--help` says first.
        commands: all that it has.
        paper: the paper whose experiments it has.
    """

    name: str
    description: str
    commands: tuple[Command[Any], ...]
    paper: Paper | None = None


@dataclass(frozen=True)
class Call:
    """One call of a command.

    Attributes:
        program: whose command it is.
        command: its name.
        arguments: what stands after it.
    """

    program: Program
    command: str
    arguments: tuple[str, ...]

    def shown(self, storage: str, store: "ResultStore") -> str:
        """The call as it may stand in a table: a URI may carry credentials, which have no place there.

        Args:
            storage: the argument of `--storage`.
            store: what it names.
        """
        place = store.files.describe_path("").rstrip("/")
        arguments = [each.replace(storage, place) if "://" in storage else each for each in self.arguments]
        return f"{self.program.name} {shlex.join([self.command, *arguments])}"
