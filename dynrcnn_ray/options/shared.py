"""The options that commands share. The configuration checks what they say."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.config.scales import SCALES, Scale, base_config
from dynrcnn_ray.config.sections import DataConfig, DynamicConfig, ModelConfig, RunConfig, TestConfig, TrainConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, field_paths, from_yaml, tree_of, validate
from dynrcnn_ray.config.yaml_text import load
from dynrcnn_ray.options.parsing import parse_first

_LOCAL_TO_MLFLOW = ("file", "sqlite")
"""Schemes whose URIs are paths."""
_SECTIONS = ("data", "model", "dynamic", "train", "test", "run")


@dataclass(frozen=True)
class ScaleOption:
    """The scale, where it decides what other options start from."""

    scale: Scale = "mini"
    """The size of data, model and schedule."""


@dataclass(frozen=True)
class BaseOptions(ScaleOption):
    """What a command's configuration starts from: a scale or a file. Parsed before the other options."""

    config: str = ""


@dataclass(frozen=True)
class StoreOptions:
    """Where results are."""

    storage: str = ""
    """Folder or URI (s3://...) of the results. Default: ~/dynrcnn_ray/<scale>."""


@dataclass(frozen=True)
class StoredOptions(StoreOptions):
    """What a command takes that only reads a store."""

    scale: Scale = "mini"
    """The scale whose default storage to read."""


@dataclass(frozen=True)
class TrialOptions(StoredOptions):
    """What a command takes that is about one trial of a store."""

    trial: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL")] = ""
    """A trial of the storage: its id or the beginning of it; `last`, the newest that has finished; or best:TABLE, the
    one with the highest AP in that table."""


def check_trial_is_named(trial: str, field: str = "trial") -> None:
    """Refuse a command that names no trial, with a `ConfigError`."""
    if not trial:
        raise ConfigError(
            f"{field}: missing; give a trial's id (the column trial_id of `trials`) or the beginning of it, `last`, or "
            "best:TABLE"
        )


@dataclass(frozen=True)
class StoredDataOptions:
    """Where a stored trial's data are on this machine."""

    root: str = ""
    """The data set's folder, where the trial trained on another machine; default: the trial's."""


@dataclass(frozen=True)
class RunOptions(StoreOptions):
    """What every command that trains takes: the scale or a file, and any field of the trial's configuration."""

    scale: Scale = "mini"
    """The size of data, model and schedule."""
    from_file: Annotated[str, tyro.conf.arg(name="config")] = ""
    """A YAML file with a configuration, as `show` prints one, in place of a scale. Fields left out keep their defaults;
    other flags change it."""
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
        scheme, _, rest = self.run.mlflow.partition("://")
        if rest and scheme not in _LOCAL_TO_MLFLOW and any(sign in rest for sign in "@?#"):
            raise ConfigError(
                "run.mlflow: names a user or a token, and results carry the whole URI; give it without, and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        return validate(self.unchecked_config())

    def unchecked_config(self) -> TrialConfig:
        """The same, whatever its values."""
        config = TrialConfig(scale=self.scale, **{name: getattr(self, name) for name in _SECTIONS})
        if self.num_workers is None:
            return config
        return dataclasses.replace(config, run=dataclasses.replace(config.run, num_workers=self.num_workers))


_RunOptions = TypeVar("_RunOptions", bound=RunOptions)


def starting_config(first: BaseOptions, arguments: Sequence[str]) -> TrialConfig:
    """The configuration of the file, or else of the scale, that the arguments name.

    Raises:
        ConfigError: both are given, or the file cannot be used.
    """
    if not first.config:
        return base_config(first.scale)
    if any(each.partition("=")[0] == "--scale" for each in arguments):
        raise ConfigError(f"--scale: {first.config} says the scale; leave one of --scale and --config out")
    try:
        text = Path(first.config).read_text()
        config = from_yaml(text)
        _tell_what_is_left_out(first.config, config, text)
        return config
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: {first.config!r} cannot be read ({one_line(error)})") from None
    except ConfigError as error:
        raise ConfigError(f"--config: {first.config}: {error}") from None


def _tell_what_is_left_out(file: str, config: TrialConfig, text: str) -> None:
    """Say on the standard error where a file leaves out what makes the scale that it names."""
    if config.scale not in SCALES:
        return
    given, base = tree_of(text, file, load), base_config(config.scale)
    left = [
        (path, own, its)
        for path in field_paths(base)
        if (own := _value(config, path)) != (its := _value(base, path))
        and not (path.startswith("run.") or _is_given(given, path))
    ]
    if left:
        path, own, its = left[0]
        others = f" and {len(left) - 1} other fields have" if len(left) > 1 else " has"
        print(
            f"note: --config: {file} leaves out what makes scale {config.scale}: {path}{others} the paper's values "
            f"({path} {own!r}, not {its!r}); `--scale {config.scale}` starts from its own",
            file=sys.stderr,
        )


def _value(config: TrialConfig, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), config)


def _is_given(tree: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


def start_from(options: type[_RunOptions], config: TrialConfig, file: str = "") -> _RunOptions:
    """Options whose defaults are the values of a configuration, and the file that it was read from.

    Raises:
        ConfigError: its scale is none of ours.
    """
    if config.scale not in SCALES:
        where = f"--config: {file}: " if file else ""
        raise ConfigError(f"{where}scale: {config.scale!r} is not allowed; allowed: {', '.join(SCALES)}")
    values: dict[str, Any] = {name: getattr(config, name) for name in _SECTIONS}
    if "seeds" in (option.name for option in dataclasses.fields(options)):
        values["seeds"] = (config.seed,)
    return options(scale=config.scale, from_file=file, **values)  # pyright: ignore[reportArgumentType]


def start_from_base(options: type[_RunOptions]) -> Callable[[Sequence[str]], tuple[_RunOptions, Sequence[str]]]:
    """Defaults of a command: those of `--scale` or `--config`, which are parsed before the others."""

    def defaults(arguments: Sequence[str]) -> tuple[_RunOptions, Sequence[str]]:
        first, rest = parse_first(BaseOptions, arguments)
        config = with_long_side(starting_config(first, arguments), rest)
        return start_from(options, config, first.config), rest

    return defaults


@dataclass(frozen=True)
class _Sides:
    """The sides of an image, where they are given."""

    short_side: Annotated[int | None, tyro.conf.arg(name="data.short-side")] = None
    long_side: Annotated[int | None, tyro.conf.arg(name="data.long-side")] = None


def with_long_side(config: TrialConfig, arguments: Sequence[str]) -> TrialConfig:
    """What other flags start from, where `--data.short-side` alone is raised above the limit of the long side.

    The limit then grows in proportion: it would else be what limits, and no image would be as large as was asked for.
    """
    given, _ = parse_first(_Sides, [each for each in arguments if each not in ("-h", "--help")])
    data = config.data
    if given.short_side is None or given.long_side is not None or given.short_side <= data.long_side:
        return config
    long_side = round(data.long_side * given.short_side / data.short_side)
    return dataclasses.replace(config, data=dataclasses.replace(data, long_side=long_side))


@dataclass(frozen=True)
class ExperimentOptions(RunOptions):
    """Options of a table's command."""

    seeds: tuple[int, ...] = (0,)
    """Seeds; every row runs once with each."""
    until_decided: bool = False
    """In place of --seeds: three seeds first, and more for the rows of claims that are not decided yet."""
    at_most_seeds: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Where --until-decided ends at the latest: 3, 5, 8, 12 or 20 seeds of a row. Default: 20."""


def checked_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds of an experiment.

    Raises:
        ConfigError: none, a negative one, or one twice.
    """
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds: {seeds} must be one or more different numbers from 0")
    return seeds


def storage_location(storage: str, scale: str) -> str:
    """The store's absolute path or URI."""
    if "://" in storage:
        return storage.rstrip("/")
    return str(Path(storage or f"~/dynrcnn_ray/{scale}").expanduser().absolute())
