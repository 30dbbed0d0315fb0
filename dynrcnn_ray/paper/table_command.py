"""The command of a table or figure."""

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.experiment.experiment import Experiment
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import ExperimentOptions, checked_seeds, start_from_base


def table_command(experiment: Experiment, description: str) -> Command[ExperimentOptions]:
    """The command that runs an experiment's missing trials, then prints its table and where it is.

    Args:
        experiment: the table or figure.
        description: what its `--help` says first.
    """

    def run(options: ExperimentOptions, call: Call) -> int:
        experiment.check_base(options.unchecked_config(), base_config(options.scale))
        from dynrcnn_ray.execution.run import run_experiments

        return run_experiments([experiment], options, checked_seeds(options.seeds), call)

    return Command(
        name=experiment.name,
        group="Reproduce the paper",
        title=f"{experiment.anchor}: {experiment.title}",
        description=description,
        options=ExperimentOptions,
        run=run,
        defaults=start_from_base(ExperimentOptions),
    )
