"""The command line's options: parsed by tyro, checked by the configuration, refused in one line."""

import argparse
import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from dynrcnn_ray.config import DataConfig, DynamicConfig, ModelConfig, RunConfig, TestConfig, TrainConfig, TrialConfig
from dynrcnn_ray.config_yaml import ConfigError, validate
from dynrcnn_ray.scales import SCALES, Scale, base_config

_Options = TypeVar("_Options")
_BOX = "│╭╮╰╯|+ "
_RULE = "─-"


@dataclass(frozen=True)
class StoreOptions:
    """Where results are."""

    storage: str = ""
    """Folder or URI (s3://...) of the results. Default: ~/dynrcnn_ray/<scale>."""


@dataclass(frozen=True)
class RunOptions(StoreOptions):
    """What every command that trains takes: the scale, and any field of the trial's configuration."""

    scale: Scale = "mini"
    """The size of data, model and schedule."""
    num_workers: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Training workers of each trial. Short for --run.num-workers."""
    dry_run: bool = False
    """Only say what would run."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    test: TestConfig = field(default_factory=TestConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def config(self) -> TrialConfig:
        """The trial that these options describe, with seed 0.

        Raises:
            ConfigError: naming the field, its value and what is allowed.
        """
        return validate(self.unchecked_config())

    def unchecked_config(self) -> TrialConfig:
        """The same, whatever its values."""
        run = self.run
        if self.num_workers is not None:
            run = dataclasses.replace(run, num_workers=self.num_workers)
        return TrialConfig(
            scale=self.scale,
            data=self.data,
            model=self.model,
            dynamic=self.dynamic,
            train=self.train,
            test=self.test,
            run=run,
        )


@dataclass(frozen=True)
class ExperimentOptions(RunOptions):
    """Options of a table's command."""

    seeds: tuple[int, ...] = (0,)
    """Seeds; every row runs once with each."""

    def checked_seeds(self) -> tuple[int, ...]:
        """The seeds.

        Raises:
            ConfigError: none, a negative one, or one twice.
        """
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"--seeds: {self.seeds} must be one or more different numbers from 0")
        return self.seeds


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Options of the command `train`."""

    seed: int = 0
    """Seed of the initial weights, the data order, the flips and the RoI sampling."""

    def checked_seed(self) -> int:
        """The seed.

        Raises:
            ConfigError: it is negative.
        """
        if self.seed < 0:
            raise ConfigError(f"--seed: {self.seed} must be 0 or greater")
        return self.seed


@dataclass(frozen=True)
class ListOptions:
    """Options of the command `list`."""

    scale: Scale = "mini"
    """The scale whose trials are counted."""


@dataclass(frozen=True)
class ReportOptions(StoreOptions):
    """Options of the command `report`."""

    scale: Scale = "mini"
    """The scale whose default storage to read."""


def parse(
    options: type[_Options], arguments: Sequence[str], *, command: str, default: _Options | None = None
) -> _Options:
    """Parse a command's arguments; the defaults are those given, or those of `--scale`.

    Raises:
        ConfigError: an unknown flag or a wrong value, in one line.
    """
    default = default or options()
    if isinstance(default, RunOptions):
        base = base_config(_scale_of(arguments))
        sections = {name: getattr(base, name) for name in ("data", "model", "dynamic", "train", "test", "run")}
        default = dataclasses.replace(default, scale=base.scale, **sections)  # pyright: ignore[reportArgumentType]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, args=list(arguments), default=default, prog=f"main.py {command}")
    except SystemExit as stop:
        if stop.code:
            raise ConfigError(_one_line(complaint.getvalue())) from None
        raise


def storage_location(storage: str, scale: Scale) -> str:
    """The store's absolute path or URI."""
    if "://" in storage:
        return storage.rstrip("/")
    return str(Path(storage or f"~/dynrcnn_ray/{scale}").expanduser().absolute())


def _scale_of(arguments: Sequence[str]) -> Any:
    """The scale among the arguments; a wrong one is left for the parser to refuse."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--scale", default="mini")
    with contextlib.suppress(argparse.ArgumentError, SystemExit), contextlib.redirect_stderr(io.StringIO()):
        scale = parser.parse_known_args(list(arguments))[0].scale
        return scale if scale in SCALES else "mini"
    return "mini"


def _one_line(complaint: str) -> str:
    """The parser's message without its box: what is wrong, then what the flag takes."""
    _title, *lines = [line.strip(_BOX) for line in complaint.splitlines()]
    texts = [list(group) for rule, group in itertools.groupby(lines, lambda line: not line.strip(_RULE)) if not rule]
    message = " ".join(texts[0])
    flag = next((line for text in texts[1:] for line in text if line.startswith("--")), "")
    if "Unrecognized options" in message:
        hint = f"; did you mean {flag.split()[0]}?" if flag else ""
        return message.replace("Unrecognized options", "unknown option") + hint
    message = re.sub(r"^Error parsing (--\S+): .*: ('.*')$", r"\1: \2 is not allowed", message)
    return f"{message} (allowed: {flag})" if flag else message
