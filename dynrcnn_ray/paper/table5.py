"""Table 5 of the paper (Section 5.5): beta and K_beta of Dynamic SmoothL1 Loss.

Six rows: fixed beta 1.0 (the baseline), 2.0 and 0.5; then DSL alone with K_beta = 15, 10 and 8 of 512 RoIs.

The paper found (ResNet-50-FPN, COCO minival, 90k steps): a smaller fixed beta is better, and DSL is better than any
fixed beta at high IoU (AP90 +3.5 over the baseline with K_beta = 10).

Cost: four trials beyond Table 3's at each scale.

Command:  dynrcnn table5 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Experiment, Row
from dynrcnn_ray.paper.rows import PAPER_BASELINE, dynamic_row

# Fixed beta, then K_beta: the paper's numbers, in the order of METRICS_BY_IOU.
PAPER_FIXED = {
    1.0: PAPER_BASELINE,
    2.0: (35.9, 57.7, 53.2, 45.1, 30.1, 8.3),
    0.5: (37.5, 57.6, 53.3, 46.4, 33.5, 11.3),
}
PAPER_DSL = {
    15: (37.6, 57.3, 53.1, 46.0, 33.9, 12.5),
    10: (38.0, 57.6, 53.5, 46.7, 34.4, 13.2),
    8: (37.6, 57.5, 53.3, 45.9, 33.9, 12.4),
}


def rows(base: TrialConfig) -> list[Row]:
    """The six rows, in the paper's order."""
    fixed = [
        dynamic_row(base, {"Setting": f"β = {beta}", "K_β": "-"}, numbers, dla=False, dsl=False, fixed_beta=beta)
        for beta, numbers in PAPER_FIXED.items()
    ]
    return fixed + [
        dynamic_row(base, {"Setting": "DSL", "K_β": str(top_k)}, numbers, dla=False, dsl=True, beta_top_k=top_k)
        for top_k, numbers in PAPER_DSL.items()
    ]


EXPERIMENT = Experiment(
    name="table5",
    reference="Table 5, Section 5.5",
    title="β and K_β of Dynamic SmoothL1 Loss",
    metrics=METRICS_BY_IOU,
    overrides=("dynamic.dla", "dynamic.dsl", "dynamic.fixed_beta", "dynamic.beta_top_k"),
    rows=rows,
)
