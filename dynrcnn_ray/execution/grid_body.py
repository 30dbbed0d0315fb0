"""What the command `grid` does: an experiment out of flags, a YAML file or a module, which is then run."""

import dataclasses
from pathlib import Path

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution.grid_command import GridOptions, grid_of
from dynrcnn_ray.execution.run import run_experiments
from dynrcnn_ray.execution.until_decided import until_decided
from dynrcnn_ray.experiment.experiment import Experiment, with_fields
from dynrcnn_ray.experiment.sweep import check_name
from dynrcnn_ray.models.user_module import has_parts, load_module
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.store.labels import OWN_COLUMNS

_OF_A_TABLE = ("name", "title", "baseline", "zip", "metrics")
"""What the EXPERIMENT of a module says itself."""


def run_grid(options: GridOptions, call: Call) -> int:
    """Run the grid's missing trials, then print its table and where it is."""
    until = until_decided(options, call)
    if options.module:
        experiment, options = _of_module(options, call)
    else:
        experiment = grid_of(options).experiment(call.program.table_names())
    return run_experiments([experiment], options, options.seeds, call, until).exit_code


def _of_module(options: GridOptions, call: Call) -> tuple[Experiment, GridOptions]:
    module = load_module(options.module, "--module")
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise ConfigError(
            f"--module: {options.module!r} holds no EXPERIMENT, a dynrcnn_ray.experiment.experiment.Experiment"
        )
    if said := [name for name in _OF_A_TABLE if getattr(options, name) != getattr(GridOptions, name)]:
        raise ConfigError(f"--{said[0]}: {options.module} says it; leave it out")
    check_name(experiment.name, call.program.table_names())
    experiment.check_base(options.unchecked_config(), base_config(options.scale))
    if has_parts(module):
        with_module = with_fields(options.config(), "model", module=str(Path(options.module).absolute()))
        options = dataclasses.replace(options, model=with_module.model)
    labels = {name for row in experiment.rows(options.config()) for name in row.labels}
    if taken := sorted(labels & {*OWN_COLUMNS, *experiment.metrics}):
        raise ConfigError(f"--module: {options.module}: a table has a column {taken[0]!r} of its own; rename the label")
    return experiment, options
