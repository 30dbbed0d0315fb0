"""Table 4 of the paper (Section 5.5): K_I of Dynamic Label Assignment.

Four rows: the baseline, and DLA alone with K_I = 64, 75 and 100 of 512 RoIs.

The paper found (ResNet-50-FPN, COCO minival, 90k steps): DLA gains about a point of AP whatever K_I; a smaller K_I
favours high IoU, a larger one low IoU.

Cost: two trials beyond Table 3's at each scale.

Command:  dynrcnn table4 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Experiment, Row
from dynrcnn_ray.paper.rows import PAPER_BASELINE, dynamic_row

# K_I: the paper's numbers, in the order of METRICS_BY_IOU.
PAPER = {
    64: (38.1, 57.2, 53.3, 46.8, 35.1, 12.8),
    75: (38.2, 57.5, 53.6, 47.1, 35.2, 12.6),
    100: (37.9, 57.9, 53.8, 46.9, 34.2, 11.6),
}


def rows(base: TrialConfig) -> list[Row]:
    """The four rows, in the paper's order."""
    baseline = dynamic_row(base, {"Setting": "Baseline"}, PAPER_BASELINE, dla=False, dsl=False)
    return [baseline] + [
        dynamic_row(base, {"Setting": f"K_I = {top_k}"}, numbers, dla=True, dsl=False, iou_top_k=top_k)
        for top_k, numbers in PAPER.items()
    ]


EXPERIMENT = Experiment(
    name="table4",
    reference="Table 4, Section 5.5",
    title="K_I of Dynamic Label Assignment",
    metrics=METRICS_BY_IOU,
    overrides=("dynamic.dla", "dynamic.dsl", "dynamic.iou_top_k"),
    rows=rows,
)
