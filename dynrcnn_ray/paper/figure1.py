"""Figure 1 of the paper (Section 1): the proposals become more and better while the baseline trains.

One row: Table 3's baseline. Its labels and its loss are fixed; what is drawn is recorded beside the training.

The paper found (ResNet-50-FPN, COCO, 90k steps): the number of positives grows at every IoU threshold, the standard
deviations of their offsets fall, the IoU of the 75th best proposal rises, and the error of the 10th best one falls.

Cost: no trial beyond Table 3's at any scale; alone, one trial a seed.

Command:  dynrcnn figure1 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

import dataclasses

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import Experiment, Row
from dynrcnn_ray.paper import table3


def rows(base: TrialConfig) -> list[Row]:
    """Table 3's baseline."""
    return [
        dataclasses.replace(row, labels={"DLA": "", "DSL": ""}, reported={}, baseline=None)
        for row in table3.rows(base)
        if row.config and not (row.config.dynamic.dla or row.config.dynamic.dsl)
    ]


EXPERIMENT = Experiment(
    name="figure1",
    reference="Figure 1, Section 1",
    title="Proposals become more and better while the baseline trains",
    metrics=(),
    overrides=table3.EXPERIMENT.overrides,
    figures="dynrcnn_ray.paper.drawings.figure1",
    rows=rows,
)
