"""Detect on pictures with a trained trial, or with a detector out of a file.

It is the same command for ten pictures and for a bucket of a million. Ray hands the pictures to actors that hold the
model, on the trial's workers or on those that the section run asks for. Writes the detections in COCO's format of
results and as a Parquet table, and the pictures and videos with boxes and masks. Files that cannot be read are listed
and skipped. The folder of the output is there once all is written.

Command:  dynrcnn predict TRIAL --images 'DIR, PATTERN, VIDEO or s3://...' [--score 0.5] [--output DIR]
          dynrcnn predict --weights FILE --images ...
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.former import with_flags_of_today
from dynrcnn_ray.options.parsing import parse_options
from dynrcnn_ray.tools.trained_trial import TrainedDetector, check_detector, trained_trial


@dataclass(frozen=True)
class PredictOptions(TrainedDetector):
    """Options of the command `predict`. The section run starts from the trial's own; with a file, from its defaults."""

    images: str = ""
    """A folder, with those below it; a pattern in quotes; a picture; a video; or the URI of pictures, such as
    s3://bucket/folder. Hidden files and what `predict` wrote are left out."""
    score: float = 0.5
    """Detections below this score are left out."""
    output: Path = Path("predictions")
    """Folder of what is written. What an earlier call has written there is replaced; any other content is refused."""
    pictures: bool = True
    """Draw the pictures and videos; with several nodes the folder must be one that all see."""
    run: RunConfig = field(default_factory=RunConfig)


def _of_the_trial(arguments: Sequence[str]) -> tuple[PredictOptions, Sequence[str]]:
    if {"-h", "--help"} & set(arguments):
        return PredictOptions(), arguments
    options = parse_options(PredictOptions, arguments)
    check_detector(options)
    if options.weights:
        return PredictOptions(), arguments
    found = trained_trial(options)
    return PredictOptions(found=found.trial_id, run=found.trial.config.run), arguments


def _check(options: PredictOptions, _call: Call) -> None:
    if not options.images:
        raise ConfigError("--images: missing; give a folder, a pattern in quotes, a video or a URI")
    if not 0 <= options.score <= 1:
        raise ConfigError(f"--score: {options.score} must be from 0 to 1")


COMMAND = Command(
    name="predict",
    group="Use a detector",
    title="detect on pictures or a video with a trained trial, or a detector out of a file",
    description="Detect on pictures or a video with a trained trial, or with a detector that somebody sent as a file "
    "(--weights): draws them, and writes the detections in COCO's format of results and as a Parquet table. Files that "
    "cannot be read are listed and skipped.",
    options=PredictOptions,
    body="dynrcnn_ray.tools.predict.predict:predict",
    check=_check,
    former=with_flags_of_today,
    defaults=_of_the_trial,
)
