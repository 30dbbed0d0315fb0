"""Table 3 of the paper (Section 5.4): what each component of Dynamic R-CNN brings.

Four rows: the baseline, Dynamic SmoothL1 Loss alone, Dynamic Label Assignment alone, and both.

The paper found (ResNet-50-FPN, COCO minival, 90k steps): each part raises AP by about a point, both together by 1.9;
nearly all of it at high IoU (AP90 +5.5), while AP50 falls slightly (-0.7).

Command:  dynrcnn table3 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Experiment, Row
from dynrcnn_ray.paper.rows import PAPER_BASELINE, dynamic_row
from dynrcnn_ray.store.labels import CHECK

# (DLA, DSL): the paper's numbers, in the order of METRICS_BY_IOU.
PAPER = {
    (False, False): PAPER_BASELINE,
    (False, True): (38.0, 57.6, 53.5, 46.7, 34.4, 13.2),
    (True, False): (38.2, 57.5, 53.6, 47.1, 35.2, 12.6),
    (True, True): (38.9, 57.3, 53.6, 47.4, 36.3, 15.2),
}


def rows(base: TrialConfig) -> list[Row]:
    """The four rows, in the paper's order."""
    return [
        dynamic_row(base, {"DLA": CHECK if dla else "", "DSL": CHECK if dsl else ""}, numbers, dla=dla, dsl=dsl)
        for (dla, dsl), numbers in PAPER.items()
    ]


EXPERIMENT = Experiment(
    name="table3",
    reference="Table 3, Section 5.4",
    title="Effects of each component",
    metrics=METRICS_BY_IOU,
    overrides=("dynamic.dla", "dynamic.dsl"),
    rows=rows,
)
