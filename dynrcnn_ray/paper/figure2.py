"""Figure 2 of the paper (Section 3.2): the positives' offsets shrink during training, and with a higher IoU threshold.

One row: Table 3's baseline. Drawn are offsets of its proposals early at IoU 0.5, late at IoU 0.5 and late at IoU 0.6.

The paper found (ResNet-50-FPN, COCO): at the same IoU the offsets concentrate as training goes; a higher IoU
concentrates them further. Under a fixed SmoothL1 such positives contribute less and less.

Cost: no trial beyond Table 3's at any scale; alone, one trial a seed.

Command:  dynrcnn figure2 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.experiment.experiment import Experiment
from dynrcnn_ray.paper import figure1

EXPERIMENT = Experiment(
    name="figure2",
    reference="Figure 2, Section 3.2",
    title="Offsets of the baseline's positives",
    metrics=(),
    overrides=figure1.EXPERIMENT.overrides,
    figures="dynrcnn_ray.paper.drawings.figure2",
    rows=figure1.rows,
)
