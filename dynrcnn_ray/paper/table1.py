"""Table 1 of the paper (Section 3.1): fixed IoU thresholds.

Three rows: the baseline trained at the fixed IoU thresholds 0.4, 0.5 and 0.6.

The paper found (ResNet-50-FPN, COCO minival, 90k steps): overall AP changes little, but each threshold favours its own
range of IoU: 0.4 is best at AP50, 0.6 at AP80 and AP90. Its baseline is 36.6 AP here and 37.0 in Tables 3 to 6.

Cost: two trials beyond Table 3's at each scale; one of them is Table 3's baseline.

Command:  dynrcnn table1 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Experiment, Row
from dynrcnn_ray.paper.rows import dynamic_row

# Fixed IoU threshold: the paper's numbers, in the order of METRICS_BY_IOU.
PAPER = {
    0.4: (35.4, 58.2, 53.0, 44.1, 29.2, 7.3),
    0.5: (36.6, 58.1, 53.5, 45.8, 31.5, 8.8),
    0.6: (35.7, 56.0, 51.6, 44.5, 31.6, 9.3),
}


def rows(base: TrialConfig) -> list[Row]:
    """The three rows, in the paper's order."""
    return [
        dynamic_row(base, {"IoU": str(iou)}, numbers, baseline=1, dla=False, dsl=False, fixed_iou=iou)
        for iou, numbers in PAPER.items()
    ]


EXPERIMENT = Experiment(
    name="table1",
    reference="Table 1, Section 3.1",
    title="Fixed IoU thresholds",
    metrics=METRICS_BY_IOU,
    overrides=("dynamic.dla", "dynamic.dsl", "dynamic.fixed_iou"),
    rows=rows,
)
