"""Where a finished trial fails, from its stored detections and the annotations of its validation split."""

from pathlib import Path
from typing import Any

import numpy as np

from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
from dynrcnn_ray.evaluation.matching import DetectionArrays, match
from dynrcnn_ray.tools.inspect.class_numbers import class_numbers
from dynrcnn_ray.tools.inspect.error_kinds import KINDS, failures
from dynrcnn_ray.tools.inspect.inspection import Inspection

BACKGROUND = "background"


def inspect_detections(
    annotation_file: Path, category_names: dict[int, str], detections: DetectionArrays, *, min_score: float
) -> Inspection:
    """Numbers of each class, the confusion matrix and the error kinds.

    Args:
        annotation_file: of the validation split, checked.
        category_names: name of each category by its id.
        detections: all of the split's.
        min_score: the confusion matrix takes detections from this score on.

    Raises:
        MissingExtraError: hotcoco is not installed.
    """
    truth = read_ground_truth(annotation_file)
    found = failures(annotation_file, detections, min_score=min_score)
    numbers = class_numbers(match(truth, detections))
    classes: list[dict[str, Any]] = [
        {
            "category_id": category_id,
            "name": category_names.get(category_id, str(category_id)),
            "objects": of_class.objects,
            "detections": of_class.detections,
            "AP": of_class.ap,
            "AP50": of_class.ap50,
            "AP75": of_class.ap75,
            "AR": of_class.ar,
            "precision": None if of_class.precision is None else of_class.precision.tolist(),
            "found_as": row.tolist(),
        }
        for category_id, of_class, row in zip(truth.category_ids.tolist(), numbers, found.confusion, strict=False)
    ]
    background: dict[str, Any] = {"category_id": None, "name": BACKGROUND, "objects": 0, "detections": 0}
    classes.append(background | {"found_as": found.confusion[-1].tolist()})
    errors = [
        {
            "kind": kind,
            "meaning": meaning,
            "count": found.counts[kind],
            "AP50_gain": found.gains[kind],
            "min_score": min_score,
        }
        for kind, meaning in KINDS.items()
    ]
    assert np.shape(found.confusion)[0] == len(classes)
    return Inspection(classes, errors)
