"""The command of a table or figure."""

from dynrcnn_ray.command_line.command import Call, Command
from dynrcnn_ray.command_line.options import ExperimentOptions, checked_seeds, start_from_base
from dynrcnn_ray.experiment import Experiment
from dynrcnn_ray.scales import base_config


def table_command(experiment: Experiment, description: str) -> Command[ExperimentOptions]:
    """The command that runs an experiment's missing trials, then prints its table and where it is.

    Args:
        experiment: the table or figure.
        description: what its `--help` says first.
    """

    def run(options: ExperimentOptions, call: Call) -> int:
        experiment.check_base(options.unchecked_config(), base_config(options.scale))
        from dynrcnn_ray.command_line.running import run_experiments

        return run_experiments([experiment], options, checked_seeds(options.seeds), call)

    return Command(
        name=experiment.name,
        title=f"{experiment.anchor}: {experiment.title}",
        description=description,
        options=ExperimentOptions,
        run=run,
        defaults=start_from_base(ExperimentOptions),
        of_paper=True,
    )
