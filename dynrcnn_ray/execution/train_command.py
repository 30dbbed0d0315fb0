"""The command `train`: one trial, from a scale, a file or a stored trial on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command, function_named
from dynrcnn_ray.options.parsing import parse_first
from dynrcnn_ray.options.shared import (
    BaseOptions,
    RunOptions,
    StoredOptions,
    start_from,
    starting_config,
    with_long_side,
)


@dataclass(frozen=True)
class Start(BaseOptions):
    """What a trial's configuration starts from."""

    storage: str = ""
    start: Annotated[str, tyro.conf.arg(name="from")] = ""


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Options of the command `train`."""

    start: Annotated[str, tyro.conf.arg(name="from")] = ""
    """A trial of the storage, whose configuration to start from: its id or the beginning of it, `last`, or best:TABLE;
    other flags change it."""
    seed: int = 0
    """Seed of the initial weights, the data order, the flips and the RoI sampling."""


_TrainOptions = TypeVar("_TrainOptions", bound=TrainOptions)


def start_from_trial_or_base(
    options: type[_TrainOptions],
) -> Callable[[Sequence[str]], tuple[_TrainOptions, Sequence[str]]]:
    """Defaults of a command that describes one trial: those of `--scale`, `--config` or `--from`."""

    def defaults(arguments: Sequence[str]) -> tuple[_TrainOptions, Sequence[str]]:
        return _from_the_start(options, arguments)

    return defaults


def _from_the_start(options: type[_TrainOptions], arguments: Sequence[str]) -> tuple[_TrainOptions, Sequence[str]]:
    first, rest = parse_first(Start, arguments)
    if first.config and first.start:
        raise ConfigError("--config, --from: give the one or the other")
    if first.start:
        store = StoredOptions(first.storage, first.scale)
        stored_trial = function_named("dynrcnn_ray.execution.stored_trial:stored_trial")
        config = stored_trial(store, first.start).config
    else:
        config = starting_config(first, arguments)
    config = with_long_side(config, rest)
    started = start_from(options, config, first.config)
    return replace(started, storage=first.storage, start=first.start, seed=config.seed), rest


def check_options(options: TrainOptions, _call: Call) -> None:
    """Refuse options that describe no trial.

    Raises:
        ConfigError: naming the field, its value and what is allowed.
    """
    options.config()
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed} must be 0 or greater")


COMMAND = Command(
    name="train",
    group="Your own experiment",
    title="train one trial: any fields, from a file, or from a stored trial on",
    description="Train and evaluate one trial. Its configuration starts from a scale, from a file (--config) or from a "
    "trial of the storage (--from); any field can be set.",
    options=TrainOptions,
    body="dynrcnn_ray.execution.train_body:train_one",
    check=check_options,
    defaults=start_from_trial_or_base(TrainOptions),
)
