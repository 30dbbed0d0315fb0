"""Table 7 of the paper (Section 5.5): training and inference speed of Dynamic against Cascade R-CNN.

Eight rows: Dynamic and Cascade R-CNN, and both with masks, with two backbones; `tiny` and `small` at scales smoke and
mini.

The paper found (one RTX 2080TI, batch 1): Dynamic R-CNN runs 1.24 times as many images per second as Cascade R-CNN with
ResNet-50-FPN, and 1.55 times with masks; 1.17 and 1.53 with ResNet-101-FPN. Its training costs nothing extra. (The text
gives Cascade R-CNN 9.6 images per second with ResNet-50 where the table says 11.2; the table is right.)

The models' heads are untrained and their score threshold is 0: all select from all candidates and return as many
detections, and masks, as they may.

Cost: no training; four minutes at scale mini on two cores.

Command:  dynrcnn table7 [--rounds 40] [--scale coco --data.root DIR --model.weights none]
"""

from dataclasses import dataclass

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import check_not_set
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import RunOptions, start_from_base

NAME = "table7"
NAMES = {
    "Dynamic R-CNN": "faster_rcnn",
    "Cascade R-CNN": "cascade_rcnn",
    "Dynamic Mask R-CNN": "mask_rcnn",
    "Cascade Mask R-CNN": "cascade_mask_rcnn",
}
OVERRIDES = (
    "model.name",
    "model.backbone",
    "model.score_threshold",
    "dynamic.dla",
    "dynamic.dsl",
    "train.global_batch",
    "train.shards",
    "run.num_workers",
)
# Images per second of the paper: with the shallow and with the deep backbone.
PAPER = {
    "Dynamic R-CNN": (13.9, 11.2),
    "Cascade R-CNN": (11.2, 9.6),
    "Dynamic Mask R-CNN": (11.3, 9.8),
    "Cascade Mask R-CNN": (7.3, 6.4),
}


@dataclass(frozen=True)
class SpeedOptions(RunOptions):
    """Options of the command `table7`."""

    rounds: int = 40
    """Timed rounds of each backbone; each trains on and detects in one image with every model."""


def _check(options: SpeedOptions, call: Call) -> None:
    if options.rounds < 1:
        raise ConfigError(f"--rounds: {options.rounds} must be 1 or greater")
    check_not_set(options.config(), base_config(options.scale), OVERRIDES, call.command)


COMMAND = Command(
    name=NAME,
    group="Reproduce the paper",
    title="Table 7, Section 5.5: images per second of Dynamic against Cascade R-CNN",
    description=__doc__ or "",
    options=SpeedOptions,
    body="dynrcnn_ray.paper.table7_body:run_table7",
    tables=(NAME,),
    page_section="dynrcnn_ray.paper.speed_table:speed_section",
    check=_check,
    defaults=start_from_base(SpeedOptions),
)
