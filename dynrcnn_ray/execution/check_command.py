"""The command `check-data`: a data set, and what of it the trial that the flags describe would see.

Every annotation is checked, and every pixel of every image. Nothing is trained.

Command:  dynrcnn check-data --data.root DIR [any flag of `train`]
"""

from dataclasses import dataclass

from dynrcnn_ray.execution.train_command import TrainOptions, check_options, start_from_trial_or_base
from dynrcnn_ray.options.command import Command


@dataclass(frozen=True)
class CheckOptions(TrainOptions):
    """Options of the command `check-data`: those of `train`, so that what it proposes can be checked by it."""

    masks: bool = False
    """Also demand a mask for every object, as Mask R-CNN needs."""


COMMAND = Command(
    name="check-data",
    group="Data",
    title="check a data set, and what a trial would see of it",
    description="Check a data set before anything is trained on it: every annotation, every pixel of every image, and "
    "whether the sizes, anchors and ranks of the trial that the flags describe suit its objects. It takes the flags of "
    "`train`.",
    options=CheckOptions,
    body="dynrcnn_ray.execution.check_body:run_check_data",
    check=check_options,
    defaults=start_from_trial_or_base(CheckOptions),
)
