"""The command `findings`: the paper's claims and one's own, each with what a store has measured and a verdict."""

from dynrcnn_ray.options.command import Command
from dynrcnn_ray.options.shared import StoredOptions

COMMAND = Command(
    name="findings",
    group="Reproduce the paper",
    title="the paper's claims and your own, each with what a store measured and a verdict",
    description="Set the paper's claims and your grids' own against what a store has measured: each gets a verdict.",
    options=StoredOptions,
    body="dynrcnn_ray.commands.findings_body:findings",
    tables=("findings",),
)
