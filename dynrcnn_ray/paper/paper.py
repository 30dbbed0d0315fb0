"""The paper's tables and figures, in its order."""

from dynrcnn_ray.experiment import Experiment
from dynrcnn_ray.paper import (
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    sync,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    table8,
    table9,
)

_MODULES = (
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    table8,
    table9,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
)
EXPERIMENTS: tuple[Experiment, ...] = tuple(module.EXPERIMENT for module in _MODULES)
"""What `all` runs. Table 7 is timed, not trained: it has a command of its own."""
BESIDE: tuple[Experiment, ...] = (sync.EXPERIMENT,)
"""Experiments that are not in the paper."""
DESCRIPTIONS = {module.EXPERIMENT.name: module.__doc__ or "" for module in (*_MODULES, sync)}
"""What the `--help` of each says first."""
