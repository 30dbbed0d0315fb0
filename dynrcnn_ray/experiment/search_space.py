"""What a search varies: fields of the configuration, each over a range or some values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, validate, with_texts
from dynrcnn_ray.experiment.experiment import field_value, identified
from dynrcnn_ray.experiment.sweep import check_paths, field_path


@dataclass(frozen=True)
class Range:
    """A field over a range, both ends in it; `log` draws its logarithm evenly."""

    low: float
    high: float
    log: bool
    is_whole: bool


Space = dict[str, "Range | tuple[Any, ...]"]
"""By the field's path: a range, or the values to choose from."""


_FORMS = {"--range": "FIELD LOW HIGH", "--choice": "FIELD VALUE VALUE ..."}


def space_of_flags(
    ranges: Sequence[Sequence[str]], logs: Sequence[str], choices: Sequence[Sequence[str]], base: TrialConfig
) -> Space:
    """A space from `--range FIELD LOW HIGH`, `--log FIELD` and `--choice FIELD VALUE VALUE ...`.

    Raises:
        ConfigError: a field that is unknown, stands twice or cannot be searched, or a value that it cannot have.
    """
    space: Space = {}
    logged = {field_path(path) for path in logs}
    for flag, given in (*(("--range", each) for each in ranges), *(("--choice", each) for each in choices)):
        if not given:
            raise ConfigError(f"{flag}: nothing must be {_FORMS[flag]}")
    for given, *values in (*ranges, *choices):
        if field_path(given) in space:
            raise ConfigError(f"{given}: stands twice; give it one range, or its values at once")
        space[field_path(given)] = tuple(values)
    if not space:
        raise ConfigError("search: give one --range FIELD LOW HIGH or --choice FIELD VALUE VALUE or more")
    check_paths(list(space))
    for given, *values in ranges:
        path = field_path(given)
        if len(values) != 2:
            raise ConfigError(f"--range: {given} {' '.join(values)} must be FIELD LOW HIGH")
        space[path] = _range(base, path, values, log=path in logged)
    for given, *values in choices:
        if len(values) < 2:
            raise ConfigError(f"--choice: {given} must have two values or more")
        path = field_path(given)
        space[path] = tuple(field_value(with_texts(base, {path: value}), path) for value in values)
    if unknown := logged - {path for path, each in space.items() if isinstance(each, Range)}:
        raise ConfigError(f"--log: {sorted(unknown)[0]!r} has no --range")
    return space


def _range(base: TrialConfig, path: str, values: Sequence[str], *, log: bool) -> Range:
    low, high = (field_value(with_texts(base, {path: value}), path) for value in values)
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise ConfigError(f"--range: {path} is no number; give --choice {path} and its values")
    if low >= high:
        raise ConfigError(f"--range: {path} from {low} to {high} is empty; the first must be the smaller one")
    if log and low <= 0:
        raise ConfigError(f"--log: {path} begins at {low}; a logarithm needs a range above 0")
    return Range(low, high, log, isinstance(low, int))


def trial_at(base: Trial, values: Mapping[str, Any]) -> Trial:
    """The base with a point of the space, its files known by their fingerprints.

    Raises:
        ConfigError: the values do not go together.
        WeightsError: a file of weights is not there.
        ModuleError: the model's own module is not there.
    """
    return identified(validate(with_texts(base.config, values)), base.inputs)


def rounded(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The same point with as many digits as its labels have, so that these tell any two points apart."""
    return dict(values) | {
        path: min(max(float(_shown(values[path])), each.low), each.high)
        for path, each in space.items()
        if isinstance(each, Range) and not each.is_whole
    }


def holds(space: Space, config: TrialConfig) -> bool:
    """Whether a trial's values lie in the space."""
    return all(
        each.low <= field_value(config, path) <= each.high
        if isinstance(each, Range)
        else field_value(config, path) in each
        for path, each in space.items()
    )


def labels_of(config: TrialConfig, space: Space) -> dict[str, str]:
    """The cells that tell a point of the space from others."""
    return {path: _shown(field_value(config, path)) for path in space}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
