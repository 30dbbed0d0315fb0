"""How what a store holds is drawn, where it is the paper's."""

from dynrcnn_ray.paper.paper import BESIDE, EXPERIMENTS
from dynrcnn_ray.report.drawing import Drawing
from dynrcnn_ray.report.figures import figures_of


def figures_of_stored(experiment: str) -> tuple[Drawing, ...]:
    """The figures of an experiment that a store names: the paper's own, or the trends of its rows."""
    modules = {each.name: each.figures for each in (*EXPERIMENTS, *BESIDE)}
    return figures_of(modules.get(experiment, ""), experiment)
