"""Table 6 of the paper (Section 5.5): the update interval C.

Four rows: the baseline, and DLA alone with C = 20, 100 and 500. A scale with a shorter schedule has a shorter C of its
own; the rows take a fifth of it, itself, and five times it.

The paper found (ResNet-50-FPN, COCO minival, 90k steps): the result hardly depends on C.

Cost: two trials beyond Table 3's at each scale.

Command:  python experiments/main.py table6 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

import dataclasses

from dynrcnn_ray.config import TrialConfig
from experiments.experiment import METRICS_BY_IOU, PAPER_BASELINE, Experiment, Row, backbone_name

# The paper's C: its numbers, in the order of METRICS_BY_IOU.
PAPER = {
    20: (38.0, 57.4, 53.5, 47.0, 35.0, 12.5),
    100: (38.2, 57.5, 53.6, 47.1, 35.2, 12.6),
    500: (38.1, 57.6, 53.5, 47.2, 34.8, 12.6),
}
_PAPERS_DEFAULT = 100


def rows(base: TrialConfig) -> list[Row]:
    """The four rows, in the paper's order."""
    settings: list[tuple[str, str, dict[str, bool | int], tuple[float, ...]]] = [
        ("Baseline", "-", {"dla": False}, PAPER_BASELINE)
    ]
    for interval, numbers in PAPER.items():
        own = max(1, round(interval * base.dynamic.update_interval / _PAPERS_DEFAULT))
        settings.append((f"C = {interval}", str(own), {"dla": True, "update_interval": own}, numbers))
    return [
        Row(
            labels={"Backbone": backbone_name(base), "Setting": name, "C here": own},
            config=dataclasses.replace(base, dynamic=dataclasses.replace(base.dynamic, dsl=False, **fields)),
            reported=dict(zip(METRICS_BY_IOU, numbers, strict=True)),
        )
        for name, own, fields, numbers in settings
    ]


EXPERIMENT = Experiment(
    name="table6",
    anchor="Table 6, Section 5.5",
    title="Update interval C",
    metrics=METRICS_BY_IOU,
    sets=("dynamic.dla", "dynamic.dsl"),
    rows=rows,
)
