"""The command `train`: one trial, from a scale, a file or a stored trial on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command, function_named
from dynrcnn_ray.options.parsing import parse_first
from dynrcnn_ray.options.shared import BaseOptions, RunOptions, StoredOptions, start_from, starting_config


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


def _from_the_start(arguments: Sequence[str]) -> tuple[TrainOptions, Sequence[str]]:
    first, rest = parse_first(Start, arguments)
    if first.config and first.start:
        raise ConfigError("--config, --from: give the one or the other")
    if first.start:
        store = StoredOptions(first.storage, first.scale)
        stored_trial = function_named("dynrcnn_ray.execution.stored_trial:stored_trial")
        config = stored_trial(store, first.start).config
    else:
        config = starting_config(first, arguments)
    options = start_from(TrainOptions, config, first.config)
    return replace(options, storage=first.storage, start=first.start, seed=config.seed), rest


def _check(options: TrainOptions, _call: Call) -> None:
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
    check=_check,
    defaults=_from_the_start,
)
