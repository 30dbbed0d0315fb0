"""Figure 4 of the paper: SmoothL1 loss and its gradient for several beta, drawn from the formula alone."""

import numpy as np
from matplotlib.figure import Figure

from dynrcnn_ray.report.drawing import Drawing
from dynrcnn_ray.report.figure_style import COLOURS, figure_style

BETAS = (2.0, 1.0, 0.5)
"""The fixed betas of the paper's Table 5."""
_COLOUR_BY_BETA = dict(zip(BETAS, (COLOURS[5], COLOURS[0], COLOURS[4]), strict=True))
_LARGEST_ERROR = 3.0


def smooth_l1(errors: np.ndarray, beta: float) -> np.ndarray:
    """SmoothL1 loss (Paper: Eq. 4).

    Args:
        errors: regression errors of any shape and sign.
        beta: where the loss turns from quadratic to linear; above zero.

    Returns:
        The same shape.
    """
    sizes = np.abs(errors)
    return np.where(sizes < beta, 0.5 * sizes**2 / beta, sizes - 0.5 * beta)


def smooth_l1_gradient(errors: np.ndarray, beta: float) -> np.ndarray:
    """Derivative of `smooth_l1` by the error: it saturates at 1 from beta on. Same shapes."""
    return np.clip(errors / beta, -1, 1)


def draw_figure4() -> Figure:
    """Draw loss and gradient for the betas of `BETAS`; a smaller beta saturates the gradient sooner."""
    errors = np.linspace(-_LARGEST_ERROR, _LARGEST_ERROR, 601)
    with figure_style():
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        loss, gradient = figure.subplots(1, 2)
        for beta, colour in _COLOUR_BY_BETA.items():
            loss.plot(errors, smooth_l1(errors, beta), color=colour, label=f"β = {beta}")
            gradient.plot(errors, smooth_l1_gradient(errors, beta), color=colour)
        loss.set(title="(a) SmoothL1 loss", xlabel="regression error (normalised offset)", ylabel="loss")
        gradient.set(title="(b) Its gradient", xlabel="regression error (normalised offset)", ylabel="gradient")
        figure.legend(*loss.get_legend_handles_labels(), loc="outside right upper", handlelength=1.4)
    return figure


FIGURES = (Drawing("figure4", lambda store, plan, finished: draw_figure4()),)
