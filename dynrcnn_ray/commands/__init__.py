"""The commands that look at a whole store."""

from dynrcnn_ray.commands import findings, report, show
from dynrcnn_ray.options.command import Command

COMMANDS: tuple[Command, ...] = (report.COMMAND, findings.COMMAND, show.COMMAND)
