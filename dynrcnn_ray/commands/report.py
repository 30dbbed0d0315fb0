"""The command `report`: every table and figure of a store again, and its page; with --watch, until a grid has ended."""

from dataclasses import dataclass

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import StoredOptions


@dataclass(frozen=True)
class ReportOptions(StoredOptions):
    """Options of the command `report`."""

    watch: bool = False
    """Draw again and again while a grid runs, until all of its trials have ended; the open page renews itself."""
    every: float = 20.0
    """Seconds between two drawings with --watch, from 1."""


def _check(options: ReportOptions, _call: Call) -> None:
    if options.every < 1:
        raise ConfigError(f"--every: {options.every:g} must be 1 or greater")


COMMAND = Command(
    name="report",
    group="Look at results",
    title="draw tables and figures again, from the store alone, and report.html",
    description="Draw every table and figure of a store again, and report.html: one page that needs no other file. "
    "With --watch, again and again while a grid runs.",
    options=ReportOptions,
    body="dynrcnn_ray.commands.report_body:report",
    check=_check,
)
