"""Table 6 of the paper (Section 5.5): the update interval C.

Four rows: the baseline, and DLA alone with C = 20, 100 and 500. A scale with a shorter schedule has a shorter C of its
own; the rows take a fifth of it, itself, and five times it.

The paper found (ResNet-50-FPN, COCO minival, 90k steps): the result hardly depends on C.

Cost: two trials beyond Table 3's at each scale.

Command:  dynrcnn table6 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Experiment, Row
from dynrcnn_ray.paper.rows import PAPER_BASELINE, dynamic_row

# The paper's C: its numbers, in the order of METRICS_BY_IOU.
PAPER = {
    20: (38.0, 57.4, 53.5, 47.0, 35.0, 12.5),
    100: (38.2, 57.5, 53.6, 47.1, 35.2, 12.6),
    500: (38.1, 57.6, 53.5, 47.2, 34.8, 12.6),
}
_PAPERS_DEFAULT = 100


def rows(base: TrialConfig) -> list[Row]:
    """The four rows, in the paper's order."""
    table = [dynamic_row(base, {"Setting": "Baseline", "C here": "-"}, PAPER_BASELINE, dla=False, dsl=False)]
    for interval, numbers in PAPER.items():
        own = max(1, round(interval * base.dynamic.update_interval / _PAPERS_DEFAULT))
        labels = {"Setting": f"C = {interval}", "C here": str(own)}
        table.append(dynamic_row(base, labels, numbers, dla=True, dsl=False, update_interval=own))
    return table


EXPERIMENT = Experiment(
    name="table6",
    reference="Table 6, Section 5.5",
    title="Update interval C",
    metrics=METRICS_BY_IOU,
    overrides=("dynamic.dla", "dynamic.dsl"),
    rows=rows,
)
