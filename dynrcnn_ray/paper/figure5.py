"""Figure 5 of the paper (Section 5.4): the trends of the IoU threshold and of SmoothL1's beta.

Six rows: Table 4's DLA with K_I = 64, 75 and 100, and Table 5's DSL with K_beta = 15, 10 and 8, all of 512 RoIs.

The paper found (ResNet-50-FPN, COCO, 90k steps): whatever K_I and K_beta, the IoU threshold rises and beta falls.

Cost: four trials beyond Table 3's at each scale, none beyond Tables 3, 4 and 5; alone, six trials a seed.

Command:  dynrcnn figure5 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

import dataclasses

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import Experiment, Row
from dynrcnn_ray.paper import table4, table5


def rows(base: TrialConfig) -> list[Row]:
    """The tables' rows with DLA or DSL, by K_I and by K_beta."""
    dla = [
        _named(row, {"K_I": str(row.config.dynamic.iou_top_k), "K_β": ""})
        for row in table4.rows(base)
        if row.config and row.config.dynamic.dla
    ]
    dsl = [
        _named(row, {"K_I": "", "K_β": str(row.config.dynamic.beta_top_k)})
        for row in table5.rows(base)
        if row.config and row.config.dynamic.dsl
    ]
    return dla + dsl


def _named(row: Row, labels: dict[str, str]) -> Row:
    return dataclasses.replace(row, labels=labels, reported={}, baseline=None)


EXPERIMENT = Experiment(
    name="figure5",
    reference="Figure 5, Section 5.4",
    title="Trends of the IoU threshold and of SmoothL1's β",
    metrics=(),
    overrides=("dynamic.dla", "dynamic.dsl", "dynamic.iou_top_k", "dynamic.beta_top_k"),
    figures="dynrcnn_ray.paper.drawings.figure5",
    rows=rows,
)
