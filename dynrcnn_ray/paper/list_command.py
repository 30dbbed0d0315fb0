"""The command `list`: every experiment with its place in the paper and its size."""

from dynrcnn_ray.options.command import Command
from dynrcnn_ray.options.shared import ScaleOption

COMMAND = Command(
    name="list",
    group="Reproduce the paper",
    title="every experiment, its place in the paper, its rows and trials",
    description="List every experiment with its place in the paper, its rows and its distinct trials.",
    options=ScaleOption,
    body="dynrcnn_ray.paper.list_body:list_experiments",
)
