"""The figures that an experiment brings, or the trends of its rows."""

import importlib

from dynrcnn_ray.report.drawing import Drawing
from dynrcnn_ray.report.trends import trends_of


def figures_of(module: str, experiment: str) -> tuple[Drawing, ...]:
    """The figures that a module names in its `FIGURES`; without a module the trends of the experiment's rows.

    Args:
        module: `Experiment.figures`.
        experiment: its name.
    """
    return importlib.import_module(module).FIGURES if module else (trends_of(experiment),)
