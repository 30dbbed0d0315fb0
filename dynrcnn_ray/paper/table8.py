"""Table 8 of the paper (Section 5.6): dynamic training of Mask R-CNN, with two backbones.

Eight rows from four trials: boxes and masks of Mask R-CNN without and with DLA and DSL. At scales smoke and mini the
two backbones are `tiny` and `small`.

The paper found (COCO minival): box AP +1.9 with ResNet-50-FPN and +2.1 with ResNet-101-FPN; mask AP +1.0 and +1.1,
although only the box head trains dynamically.

Cost: four trials of its own at each scale.

Command:  dynrcnn table8 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_SIZE, Experiment, Row, with_fields
from dynrcnn_ray.paper.protocols import dynamic, static
from dynrcnn_ray.paper.rows import backbone_name, deeper
from dynrcnn_ray.store.labels import CHECK

# (backbone, task): the paper's numbers without and with dynamic training.
PAPER = {
    ("shallow", "bbox"): ((37.5, 58.0, 40.7, 20.2, 40.2, 50.9), (39.4, 57.6, 43.3, 21.3, 41.8, 53.2)),
    ("shallow", "segm"): ((33.8, 54.6, 36.0, 14.5, 35.7, 51.5), (34.8, 55.0, 37.5, 15.0, 36.9, 52.1)),
    ("deep", "bbox"): ((39.7, 60.7, 43.2, 21.9, 42.9, 54.3), (41.8, 60.4, 45.8, 23.4, 44.9, 55.6)),
    ("deep", "segm"): ((35.6, 56.9, 37.7, 15.7, 38.0, 53.6), (36.7, 57.5, 39.4, 16.6, 39.3, 54.0)),
}


def rows(base: TrialConfig) -> list[Row]:
    """The eight rows, in the paper's order; each dynamic row's baseline is the row above it."""
    masked = with_fields(base, "model", name="mask_rcnn")
    result: list[Row] = []
    for (backbone, task), (plain, with_dynamic) in PAPER.items():
        config = masked if backbone == "shallow" else deeper(masked)
        baseline = len(result)
        for is_dynamic, numbers in ((False, plain), (True, with_dynamic)):
            result.append(
                Row(
                    labels={"Backbone": backbone_name(config), "Task": task, "+Dynamic": CHECK if is_dynamic else ""},
                    config=dynamic(config) if is_dynamic else static(config),
                    reported=dict(zip(METRICS_BY_SIZE, numbers, strict=True)),
                    baseline=baseline,
                    metric_prefix="segm_" if task == "segm" else "",
                )
            )
    return result


EXPERIMENT = Experiment(
    name="table8",
    reference="Table 8, Section 5.6",
    title="Dynamic training of Mask R-CNN",
    metrics=METRICS_BY_SIZE,
    overrides=("dynamic.dla", "dynamic.dsl", "model.name", "model.backbone"),
    rows=rows,
)
