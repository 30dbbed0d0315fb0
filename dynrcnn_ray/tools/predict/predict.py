"""What the command `predict` does: detects on pictures or a video, and tells what it found."""

import dataclasses
import sys

from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.tools.predict.command import PredictOptions
from dynrcnn_ray.tools.predict.pictures import find_pictures
from dynrcnn_ray.tools.predict.prediction import Prediction, predict_pictures
from dynrcnn_ray.tools.predict.predictions import PredictionFiles, output_folder
from dynrcnn_ray.tools.predict.videos import open_videos, require_videos
from dynrcnn_ray.tools.used_detector import used_detector

_MOST_BAD_SHOWN = 5


def predict(options: PredictOptions, _call: Call) -> int:
    """Detect on pictures or a video; print how many detections there are and where.

    Returns:
        The exit code: 0 done, 2 no picture could be read.
    """
    output = output_folder(options.output)
    output.check()
    listing = find_pictures(options.images, without=(output.folder, output.partial))
    if options.pictures:
        import_extra("supervision", "predict")
    videos, bad_videos = open_videos(listing.videos, after_pictures=bool(listing.paths))
    if not listing.paths:
        require_videos(videos, bad_videos)
    detector = used_detector(options)
    trained, names = detector.trial, detector.category_names
    trial = Trial(validate(dataclasses.replace(trained.config, run=options.run)), trained.inputs)
    if left_out := listing.describe_left_out():
        _tell(f"left out: {left_out}")
    with PredictionFiles(output.folder, names) as files:
        for line in (*listing.unreadable, *bad_videos):
            files.add_bad(line)
        drawings = str(files.drawings) if options.pictures else ""
        state, source = detector.checkpoint, listing.source
        prediction = Prediction(trial, trial.training_id, names, state, options.score, drawings, source)
        predict_pictures(prediction, listing.paths, files, _tell, videos)
    for line in files.bad[:_MOST_BAD_SHOWN]:
        _tell(f"skipped: {line}")
    if len(files.bad) > _MOST_BAD_SHOWN:
        _tell(f"{len(files.bad) - _MOST_BAD_SHOWN} more in {files.folder / 'bad_files.txt'}")
    print(f"{files.detections} detections in {files.pictures} pictures: {files.folder}")
    return 0 if files.pictures else 2


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
