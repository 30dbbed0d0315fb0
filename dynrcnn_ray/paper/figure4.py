"""Figure 4 of the paper (Section 4.2): SmoothL1 loss and its gradient for several beta.

No row: the figure is drawn from Equation 4 alone, for the fixed betas of Table 5.

The paper's point: a smaller beta saturates the gradient sooner, so that small errors contribute more.

Cost: no trial at any scale.

Command:  dynrcnn figure4
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import Experiment, Row


def rows(_base: TrialConfig) -> list[Row]:
    """None: nothing is trained."""
    return []


EXPERIMENT = Experiment(
    name="figure4",
    reference="Figure 4, Section 4.2",
    title="SmoothL1 loss and its gradient",
    metrics=(),
    overrides=(),
    figures="dynrcnn_ray.paper.drawings.figure4",
    rows=rows,
)
