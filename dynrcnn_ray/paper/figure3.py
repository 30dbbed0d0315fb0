"""Figure 3 of the paper (Section 4): what Dynamic Label Assignment and Dynamic SmoothL1 Loss do.

One row: Table 3's DLA + DSL. The paper draws the pipeline; this figure draws the same on proposals that a run has
recorded at a few of its steps.

The paper's point: as proposals improve, T_now rises, so that the same proposal turns from positive to negative; and
beta_now falls, so that the loss gives small errors more weight.

Cost: no trial beyond Table 3's at any scale; alone, one trial a seed. The first finished seed is drawn.

Command:  dynrcnn figure3 [--scale smoke|mini|coco] [--seeds 0]
"""

import dataclasses

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import Experiment, Row
from dynrcnn_ray.paper import table3
from dynrcnn_ray.store.labels import CHECK


def rows(base: TrialConfig) -> list[Row]:
    """Table 3's last row: both parts."""
    return [
        dataclasses.replace(row, labels={"DLA": CHECK, "DSL": CHECK}, reported={}, baseline=None)
        for row in table3.rows(base)
        if row.config and row.config.dynamic.dla and row.config.dynamic.dsl
    ]


EXPERIMENT = Experiment(
    name="figure3",
    reference="Figure 3, Section 4",
    title="Dynamic R-CNN at work",
    metrics=(),
    overrides=table3.EXPERIMENT.overrides,
    figures="dynrcnn_ray.paper.drawings.figure3",
    rows=rows,
)
