"""The command `findings`: the paper's claims, each with what a store has measured and a verdict."""

from dynrcnn_ray.options.command import Command
from dynrcnn_ray.options.shared import StoredOptions

COMMAND = Command(
    name="findings",
    group="Reproduce the paper",
    title="the paper's claims, each with what a store measured and a verdict",
    description="Set the paper's claims against what a store has measured: each gets an interval and a verdict.",
    options=StoredOptions,
    body="dynrcnn_ray.commands.findings_body:findings",
    tables=("findings",),
)
