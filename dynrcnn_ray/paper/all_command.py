"""The command `all`: every table and figure of the paper as one grid, each trial once, the longest first."""

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import ExperimentOptions, checked_seeds, start_from_base
from dynrcnn_ray.paper.paper import EXPERIMENTS


def _check(options: ExperimentOptions, _call: Call) -> None:
    for experiment in EXPERIMENTS:
        experiment.check_base(options.unchecked_config(), base_config(options.scale))
    options.config()
    checked_seeds(options.seeds)


COMMAND = Command(
    name="all",
    group="Reproduce the paper",
    title="every table and figure; with --dry-run, the plan and how long it takes",
    description="Train what every table and figure of the paper needs, as one grid: each trial once. With --dry-run, "
    "the plan and how long it takes.",
    options=ExperimentOptions,
    body="dynrcnn_ray.paper.all_body:run_all",
    check=_check,
    defaults=start_from_base(ExperimentOptions),
)
