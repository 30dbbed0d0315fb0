"""The commands of the paper: one for each table and figure, and those that are about all of them."""

from dynrcnn_ray.options.command import Command
from dynrcnn_ray.paper import all_command, list_command, table7
from dynrcnn_ray.paper.paper import BESIDE, DESCRIPTIONS, EXPERIMENTS
from dynrcnn_ray.paper.table_command import table_command

COMMANDS: tuple[Command, ...] = (
    *(table_command(experiment, DESCRIPTIONS[experiment.name]) for experiment in (*EXPERIMENTS, *BESIDE)),
    table7.COMMAND,
    all_command.COMMAND,
    list_command.COMMAND,
)
