"""The command `grid`: an experiment of one's own, with all that the paper's tables have.

  dynrcnn grid --name my_ki --axis dynamic.iou-top-k 64 100 --baseline dynamic.dla=false dynamic.dsl=false --seeds 0 1
  dynrcnn grid my_grid.yaml
  dynrcnn grid --module my_table.py

Each --axis is a field and its values; every combination is a row. A later grid of the same name adds its rows to the
table. A file says the same in YAML: title, base, axes (or rows by name), zip, baseline, metrics, seeds; and what it
claims of its rows, in a line each, such as `AP: both > baseline`. Claims are locked when the first trial begins, and
judged by `findings`. A module holds an `EXPERIMENT`, and, if it likes, a `build_model` for its rows.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.config.scales import SCALES, base_config
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU
from dynrcnn_ray.experiment.sweep import Sweep, read_sweep, sweep_of_flags
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.parsing import parse_first
from dynrcnn_ray.options.shared import BaseOptions, ExperimentOptions, checked_seeds, start_from, starting_config


@dataclass(frozen=True)
class GridOptions(ExperimentOptions):
    """Options of the command `grid`."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")] = ""
    """A YAML file in place of the flags below. It comes first."""
    name: str = ""
    """The grid's name: that of its plan, table and figures in the store."""
    title: str = ""
    """What the table shows."""
    axis: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A field and its values, such as: dynamic.iou-top-k 64 100 150."""
    zip: bool = False
    """Take the axes' values side by side, in place of every combination."""
    baseline: tuple[str, ...] = ()
    """What the differences refer to: FIELD=VALUE, such as dynamic.dla=false."""
    module: str = ""
    """A Python file with an EXPERIMENT, and perhaps a build_model."""
    metrics: tuple[str, ...] = METRICS_BY_IOU
    """The columns of numbers."""


def _of_the_file(arguments: Sequence[str]) -> tuple[GridOptions, Sequence[str]]:
    """Options that start from a scale or --config, and from the grid's file if one comes first."""
    first, rest = parse_first(BaseOptions, arguments)
    base = starting_config(first, arguments)
    if not rest or rest[0].startswith("-"):
        return start_from(GridOptions, base, first.config), rest
    file, *rest = rest
    grid = _read(file)
    if grid.scale in SCALES and not _starts_elsewhere(arguments):
        base = base_config(grid.scale)
    options = start_from(GridOptions, grid.based_on(base), first.config)
    return dataclasses.replace(options, file=file, metrics=grid.metrics, seeds=grid.seeds or options.seeds), rest


def _starts_elsewhere(arguments: Sequence[str]) -> bool:
    return any(each.partition("=")[0] in ("--scale", "--config") for each in arguments)


def grid_of(options: GridOptions) -> Sweep:
    """The grid that flags or a file describe.

    Raises:
        ConfigError: the flags or the file are wrong.
    """
    if options.axis:
        return sweep_of_flags(
            options.axis,
            options.baseline,
            name=options.name,
            title=options.title,
            zip=options.zip,
            metrics=options.metrics,
        )
    grid = _read(options.file)
    changed = {name: value for name in ("name", "title") if (value := getattr(options, name))}
    return dataclasses.replace(grid, metrics=options.metrics, **changed)


def _read(file: str) -> Sweep:
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({one_line(error)})") from None
    try:
        return read_sweep(text, Path(file).stem)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _check(options: GridOptions, call: Call) -> None:
    if sum(map(bool, (options.file, options.module, options.axis))) != 1:
        raise ConfigError("grid: give a YAML file, or --module, or --axis with its values")
    if options.file and parse_first(BaseOptions, call.arguments)[1][:1] != [options.file]:
        raise ConfigError(f"{options.file}: must come first: what it says stands below the other arguments")
    if options.file and (options.baseline or options.zip):
        raise ConfigError(f"--baseline, --zip: {options.file} says them; leave them out")
    if not options.module:
        grid_of(options)
    checked_seeds(options.seeds)


COMMAND = Command(
    name="grid",
    group="Your own experiment",
    title="an experiment of your own: axes over any fields, a YAML file or a module",
    description=__doc__ or "",
    options=GridOptions,
    body="dynrcnn_ray.execution.grid_body:run_grid",
    check=_check,
    defaults=_of_the_file,
)
