"""The commands that train: one trial, a grid, a search."""

from dynrcnn_ray.execution import grid_command, search_command, train_command
from dynrcnn_ray.options.command import Command

COMMANDS: tuple[Command, ...] = (train_command.COMMAND, grid_command.COMMAND, search_command.COMMAND)
