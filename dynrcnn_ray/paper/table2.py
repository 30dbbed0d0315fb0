"""Table 2 of the paper (Section 5.3): the main results, over backbones, schedules and testing protocols.

Fourteen rows: Faster R-CNN and Dynamic R-CNN, each with ResNet-50 and ResNet-101, the 2x schedule, multi-scale training
(MST), deformable convolutions (DCN) and multi-scale testing (*). At scales smoke and mini the two backbones are `tiny`
and `small`.

The paper found (COCO test-dev): Dynamic R-CNN gains 1.8 to 2.3 AP in every setting. test-dev has no public labels, so
the measured rows are of the validation split; differences between rows are comparable, the numbers themselves are not.

The rows with DCN are measured as the paper's text has them: DCNv2, and in multi-scale testing the boxes of 800/1333 and
of five short sides, each with its mirror image, joined before NMS. The one such configuration that the authors
published, Table 9's Dynamic R-CNN*, differs: DCN v1, and the boxes of the five short sides alone are averaged.

Cost: ten trainings beyond Table 3's at each scale, eight of them with two or three times the steps; the rows marked *
only test the weights of the rows above them again.

Command:  dynrcnn table2 [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_SIZE, Experiment, Row
from dynrcnn_ray.paper.protocols import deformable, dynamic, multi_scale_testing, schedule, static
from dynrcnn_ray.paper.rows import backbone_name, deeper

# (schedule, backbone, multi-scale testing): the paper's numbers of Faster R-CNN and of Dynamic R-CNN.
PAPER = {
    ("1x", "shallow", False): ((37.3, 58.5, 40.6, 20.3, 39.2, 49.1), (39.1, 58.0, 42.8, 21.3, 40.9, 50.3)),
    ("2x", "shallow", False): ((38.1, 58.9, 41.5, 20.5, 40.0, 50.0), (39.9, 58.6, 43.7, 21.6, 41.5, 51.9)),
    ("1x", "deep", False): ((39.3, 60.5, 42.7, 21.3, 41.8, 51.7), (41.2, 60.1, 45.1, 22.5, 43.6, 53.2)),
    ("2x", "deep", False): ((39.9, 60.6, 43.5, 21.4, 42.4, 52.1), (42.0, 60.7, 45.9, 22.7, 44.3, 54.3)),
    ("2x+MST", "deep", False): ((42.8, 63.8, 46.8, 24.8, 45.6, 55.6), (44.7, 63.6, 49.1, 26.0, 47.4, 57.2)),
    ("2x+MST", "deep DCN", False): ((44.8, 65.5, 48.8, 26.2, 47.6, 58.1), (46.9, 65.9, 51.3, 28.1, 49.6, 60.0)),
    ("2x+MST", "deep DCN", True): ((46.9, 68.1, 51.4, 30.6, 49.6, 58.1), (49.2, 68.6, 54.0, 32.5, 51.7, 60.3)),
}


def rows(base: TrialConfig) -> list[Row]:
    """The fourteen rows, in the paper's order; each dynamic row's baseline is its Faster R-CNN."""
    return [
        _row(base, method, protocol, numbers[method == "Dynamic R-CNN"], baseline=index)
        for method in ("Faster R-CNN", "Dynamic R-CNN")
        for index, (protocol, numbers) in enumerate(PAPER.items())
    ]


def _row(
    base: TrialConfig, method: str, protocol: tuple[str, str, bool], numbers: tuple[float, ...], baseline: int
) -> Row:
    schedule_name, backbone, is_multi_scale = protocol
    config = (dynamic if method == "Dynamic R-CNN" else static)(base)
    config = config if backbone == "shallow" else deeper(config)
    config = deformable(config) if backbone == "deep DCN" else config
    config = schedule(config, schedule_name)
    suffix = "" if schedule_name == "1x" else f"+{schedule_name}"
    return Row(
        labels={
            "Method": f"{method}{suffix}{'*' if is_multi_scale else ''}",
            "Backbone": backbone_name(config) + ("-DCN" if backbone == "deep DCN" else ""),
        },
        config=multi_scale_testing(config) if is_multi_scale else config,
        reported=dict(zip(METRICS_BY_SIZE, numbers, strict=True)),
        baseline=baseline,
    )


EXPERIMENT = Experiment(
    name="table2",
    reference="Table 2, Section 5.3",
    title="Faster R-CNN and Dynamic R-CNN over backbones, schedules and testing protocols",
    metrics=METRICS_BY_SIZE,
    overrides=(
        "dynamic.dla",
        "dynamic.dsl",
        "model.backbone",
        "model.deformable",
        "data.train_short_sides",
        "data.train_long_side",
        "test.multi_scale",
        "test.multi_scale_short_sides",
        "test.multi_scale_long_side",
    ),
    rows=rows,
    paper_split="test-dev",
)
