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

    def check(options: ExperimentOptions, _call: Call) -> None:
        experiment.check_base(options.unchecked_config(), base_config(options.scale))
        options.config()
        checked_seeds(options.seeds)

    return Command(
        name=experiment.name,
        group="Reproduce the paper",
        title=f"{experiment.reference}: {experiment.title}",
        description=description,
        options=ExperimentOptions,
        body="dynrcnn_ray.paper.table_body:run_table",
        check=check,
        tables=(experiment.name,),
        defaults=start_from_base(ExperimentOptions),
    )
