"""Table 4 of the paper (Section 5.5) on a wider grid of K_I, for data with more objects an image than COCO.

Six rows: the baseline, and DLA alone with K_I = 64, 75, 100, 150 and 250 of 512 RoIs.

The paper stops at 100, as COCO has some seven objects an image. Where images hold more, a small K_I counts little but
the ground truths that training appends, T_now climbs, and few positives are left; see README, "On your own data".

Cost: two trials beyond Table 4's at each scale.

Command:  python experiments/main.py table4_wide --data.root DIR [--seeds 0 1 2]
"""

import dataclasses

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.experiment import Experiment, Row
from experiments import table4
from experiments.rows import dynamic_row

WIDER = (150, 250)


def rows(base: TrialConfig) -> list[Row]:
    """Table 4's rows, then the wider ones."""
    wider = [
        dynamic_row(base, {"Setting": f"K_I = {top_k}"}, (), dla=True, dsl=False, iou_top_k=top_k) for top_k in WIDER
    ]
    return [*table4.rows(base), *wider]


EXPERIMENT: Experiment = dataclasses.replace(
    table4.EXPERIMENT,
    name="table4_wide",
    title="K_I of Dynamic Label Assignment, on a wider grid",
    rows=rows,
)
