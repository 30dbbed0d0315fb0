"""The commands that train, one trial, a grid, a search; and the one that looks at what would be trained on."""

from dynrcnn_ray.execution import check_command, grid_command, search_command, train_command
from dynrcnn_ray.options.command import Command

COMMANDS: tuple[Command, ...] = (
    train_command.COMMAND,
    grid_command.COMMAND,
    search_command.COMMAND,
    check_command.COMMAND,
)
