"""A grid of one's own: axes or named rows over a base configuration, from a YAML file or from flags."""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict

from dynrcnn_ray.config.scales import SCALES
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, field_paths, parse_yaml, validate, with_texts, with_values
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, SINGLE_TRIAL, Experiment, Row, field_value
from dynrcnn_ray.store.labels import CHECK, NO_CELL, OWN_COLUMNS
from dynrcnn_ray.store.metrics import MASK_METRICS, METRICS

_PAPER = "paper"
"""The field of a row that is none of the configuration: a paper's numbers."""
_FOR_ALL_ROWS = re.compile(
    r"seed|scale|data\.(root|(train|val)_(split|annotations|images)|val_fraction|val_seed|drop_invalid)|"
    r"data\.shapes\..*|run\.(tensorboard|mlflow)"
)
"""Fields that the rows of a grid share: seeds have an option of their own, and the data are prepared once."""
_BARE_SIZE = re.compile(r":[ \t]+\|[^|\n]+\|")
"""A claim such as `AP: |a - b| < 1` without quotes: YAML takes the first | for the head of a long text."""


@dataclass(frozen=True)
class Sweep:
    """What a YAML file of a grid may say.

    Attributes:
        name: of its plan, table and figures in the store; default: the file's name.
        title: what it shows.
        base: fields of the base configuration, a mapping as in a trial's configuration.
        axes: the values of each field, by its path such as `dynamic.iou_top_k`. Every combination is a row.
        zip: the first values of all axes are a row, the second ones, and so on, in place of every combination.
        rows: in place of axes: the fields of each row, by its name; in the field `paper` the numbers that a paper
            reports for it, by metric.
        baseline: what the differences refer to: the name of a row, or fields such as {dynamic.dla: false}, which
            become a row unless one has them.
        metrics: the columns of numbers.
        seeds: every row runs once with each; none: that of the configuration.
        claims: what is claimed of the rows, as in `Experiment`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str = ""
    title: str = ""
    base: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    zip: bool = False
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline: str | dict[str, Any] = ""
    metrics: tuple[str, ...] = METRICS_BY_IOU
    seeds: tuple[int, ...] = ()
    claims: Any = ()

    def based_on(self, config: TrialConfig) -> TrialConfig:
        """A configuration with the fields of `base`.

        Args:
            config: where to start; of the base's `scale`, if it names one.

        Raises:
            ConfigError: a field is unknown or its value not allowed.
        """
        if (scale := self.scale) not in (None, *SCALES):
            raise ConfigError(f"base.scale: {scale!r} is not allowed; allowed: {', '.join(SCALES)}")
        if scale not in (None, config.scale):
            raise ConfigError(f"base.scale: {scale!r} is not that of the other fields, {config.scale!r}; leave one out")
        return with_values(config, flat(self.base))

    @property
    def scale(self) -> Any:
        """The scale whose configuration `base` starts from; None if it says none."""
        return self.base.get("scale")

    def experiment(self, taken_names: Collection[str]) -> Experiment:
        """The table that this grid is.

        Args:
            taken_names: those of tables that are not the user's, see `check_name`.

        Raises:
            ConfigError: what it says does not go together.
        """
        check_name(self.name, taken_names)
        _check(self)
        return Experiment(
            name=self.name,
            reference="Own experiment",
            title=self.title or f"Grid {self.name}",
            metrics=self.metrics,
            overrides=tuple(_by_path(self.axes)),
            rows=self._rows,
            keeps_earlier_rows=True,
            claims=self.claims,
        )

    def _rows(self, base: TrialConfig) -> list[Row]:
        if self.rows:
            rows = [({"Setting": name}, _config(base, _set_by(row), name)) for name, row in self.rows.items()]
            papers = [row.get(_PAPER, {}) for row in self.rows.values()]
            baseline = list(self.rows).index(str(self.baseline)) if self.baseline else None
        else:
            rows, baseline = _rows_of_axes(self, base)
            papers = [{} for _ in rows]
        _check_distinct(rows)
        return [
            Row(labels=labels, config=config, reported=paper, baseline=baseline)
            for (labels, config), paper in zip(rows, papers, strict=True)
        ]


def read_sweep(text: str, name: str) -> Sweep:
    """A grid from a YAML file's content.

    Args:
        text: the content.
        name: its name, unless the file says another.

    Raises:
        ConfigError: not YAML, an unknown field, or a wrong type.
    """
    try:
        grid = parse_yaml(Sweep, text, "the grid")
    except ConfigError as error:
        if _BARE_SIZE.search(text):
            raise ConfigError(f"{error}; a claim with |...| stands in quotes") from None
        raise
    return grid if grid.name else Sweep(**{**vars(grid), "name": name})


def sweep_of_flags(axes: Sequence[Sequence[str]], baseline: Sequence[str], **others: Any) -> Sweep:
    """A grid from `--axis FIELD VALUE ...` and `--baseline FIELD=VALUE ...`.

    Raises:
        ConfigError: an axis without a value, or one that stands twice; a baseline that is no FIELD=VALUE.
    """
    values: dict[str, list[Any]] = {}
    for axis in axes:
        if len(axis) < 2:
            raise ConfigError(f"--axis: {' '.join(axis) or 'nothing'} must be a field and its values")
        if (path := field_path(axis[0])) in values:
            raise ConfigError(f"--axis: {axis[0]} stands twice; give all of its values at once")
        values[path] = [_value_of_text(path, text) for text in axis[1:]]
    return Sweep(axes=values, baseline=fields_of_flags(baseline) or "", **others)


def _value_of_text(path: str, text: str) -> Any:
    return field_value(with_texts(TrialConfig(), {path: text}), path)


def fields_of_flags(baseline: Sequence[str]) -> dict[str, Any]:
    """Values by their field's path, from `--baseline FIELD=VALUE ...`.

    Raises:
        ConfigError: one is no FIELD=VALUE, a field stands twice, is unknown or cannot have its value.
    """
    if wrong := [each for each in baseline if "=" not in each]:
        raise ConfigError(f"--baseline: {wrong[0]!r} must be FIELD=VALUE, such as dynamic.dla=false")
    given = [(field_path(name), value) for name, _, value in (each.partition("=") for each in baseline)]
    return {path: _value_of_text(path, value) for path, value in _each_once(given).items()}


def flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by their paths, of a mapping that nests sections or holds paths or both.

    Raises:
        ConfigError: a field stands twice, in two spellings or both nested and by its path.
    """
    return _each_once(_leaves(fields))


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        path = field_path(f"{prefix}{name}")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _by_path(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping by the paths that its names spell, each of which may stand once."""
    return _each_once((field_path(name), value) for name, value in fields.items())


def _each_once(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, value in fields:
        if path in paths:
            raise ConfigError(f"{path}: stands twice, in two spellings; keep one of the two")
        paths[path] = value
    return paths


def field_path(text: str) -> str:
    """A field as the configuration has it, of a path that may be written as a flag."""
    return text.strip().removeprefix("--").replace("-", "_")


def check_name(name: str, taken_names: Collection[str]) -> None:
    """Refuse a name that a user's table cannot have.

    Args:
        name: of its plan, table and figures in the store.
        taken_names: those that the program's commands keep there, from `Program.table_names`.

    Raises:
        ConfigError: it names no file, or is that of another table.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"name: {name!r} must be letters, digits, '_', '-' and '.'; it names files")
    if name in taken_names or name == SINGLE_TRIAL or name.startswith(f"{SINGLE_TRIAL}_"):
        raise ConfigError(f"name: {name!r} is that of another table; choose one of your own")


def check_paths(paths: Sequence[str]) -> None:
    """Refuse fields that all trials of a grid or a search share, with a `ConfigError`."""
    if shared := [path for path in paths if _FOR_ALL_ROWS.fullmatch(path)]:
        raise ConfigError(f"{shared[0]}: all rows share it; set it once, or run a grid for each (seeds: --seeds)")


def _check(grid: Sweep) -> None:
    if bool(grid.axes) == bool(grid.rows):
        raise ConfigError("axes, rows: give the one or the other: fields with their values, or named rows")
    of_baseline = flat(grid.baseline) if isinstance(grid.baseline, Mapping) else {}
    check_paths([*_by_path(grid.axes), *of_baseline, *(path for row in grid.rows.values() for path in _set_by(row))])
    if empty := [path for path, values in grid.axes.items() if not values]:
        raise ConfigError(f"axes.{empty[0]}: has no value; give one or more")
    if grid.zip and len({len(values) for values in grid.axes.values()}) > 1:
        raise ConfigError("zip: the axes must have equally many values")
    if isinstance(grid.baseline, str) and grid.baseline and grid.baseline not in grid.rows:
        known = ", ".join(grid.rows) or "fields such as dynamic.dla=false"
        raise ConfigError(f"baseline: {grid.baseline!r} is no row; allowed: {known}")
    if grid.rows and not isinstance(grid.baseline, str):
        raise ConfigError(f"baseline: {grid.baseline!r} must be the name of a row: {', '.join(grid.rows)}")
    _check_metrics("metrics", grid.metrics)
    for name, row in grid.rows.items():
        if _PAPER in row:
            _check_numbers(f"rows.{name}.{_PAPER}", row[_PAPER])


def _check_metrics(field: str, metrics: Collection[str]) -> None:
    allowed = [*METRICS, *MASK_METRICS]
    if unknown := [name for name in metrics if name not in allowed]:
        raise ConfigError(f"{field}: {unknown[0]!r} is not allowed; allowed: {', '.join(allowed)}")
    if not metrics:
        raise ConfigError(f"{field}: there are none; allowed: {', '.join(allowed)}")


def _check_numbers(field: str, numbers: Any) -> None:
    if not isinstance(numbers, Mapping):
        raise ConfigError(f"{field}: {numbers!r} must be numbers by metric, such as {{AP: 38.9}}")
    _check_metrics(field, numbers)
    for metric, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 100:
            raise ConfigError(f"{field}.{metric}: {number!r} must be a number in percent, from 0 to 100")


def _set_by(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the configuration that a row sets, by their paths."""
    return flat({name: value for name, value in row.items() if name != _PAPER})


def _rows_of_axes(grid: Sweep, base: TrialConfig) -> tuple[list[tuple[dict[str, str], TrialConfig]], int | None]:
    """The rows with their labels, and the baseline's place: the first, unless one of the combinations is it."""
    axes = _by_path(grid.axes)
    of_baseline = flat(grid.baseline) if isinstance(grid.baseline, Mapping) else {}
    # In the configuration's order, so that a row has one name in whatever order the fields are given.
    paths = [path for path in field_paths(base) if path in axes or path in of_baseline]
    columns = _columns(paths)
    combinations = zip(*axes.values(), strict=True) if grid.zip else itertools.product(*axes.values())
    rows = []
    for values in combinations:
        config = _config(base, dict(zip(axes, values, strict=True)), "")
        rows.append(({columns[path]: _cell(config, path) for path in paths}, config))
    if not of_baseline:
        return rows, None
    config = _config(base, of_baseline, "the baseline")
    same = [index for index, (_, other) in enumerate(rows) if Trial(other).trial_id == Trial(config).trial_id]
    if same:
        return rows, same[0]
    labels = {columns[path]: _cell(config, path) if path in of_baseline else NO_CELL for path in paths}
    return [(labels, config), *rows], 0


def _config(base: TrialConfig, values: Mapping[str, Any], name: str) -> TrialConfig:
    try:
        return validate(with_values(base, values))
    except ConfigError as error:
        told = name or ", ".join(f"{path} = {value}" for path, value in values.items())
        raise ConfigError(f"{error} (row: {told})") from None


def _columns(paths: Sequence[str]) -> dict[str, str]:
    """The name of each field's column: its last part, where that tells it from the others and from a table's own."""
    last = [path.rpartition(".")[2] for path in paths]
    return {
        path: name if last.count(name) == 1 and name not in OWN_COLUMNS else path
        for path, name in zip(paths, last, strict=True)
    }


def _cell(config: TrialConfig, path: str) -> str:
    value = field_value(config, path)
    if isinstance(value, bool):
        return CHECK if value else ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _check_distinct(rows: Sequence[tuple[Mapping[str, str], TrialConfig]]) -> None:
    seen: dict[str, Mapping[str, str]] = {}
    for labels, config in rows:
        trial_id = Trial(config).trial_id
        if trial_id in seen:
            first, second = (", ".join(filter(None, each.values())) for each in (seen[trial_id], labels))
            raise ConfigError(
                f"rows: {first!r} and {second!r} are the same trial: what they differ in, such as the section run, "
                "decides no result; leave one out"
            )
        seen[trial_id] = labels
