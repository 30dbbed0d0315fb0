"""Where a detector fails: the error kinds of TIDE and a confusion matrix with the background, counted by hotcoco.

TIDE (Bolya et al., ECCV 2020) gives each false positive and each missed object one cause, and says what average
precision would gain if all errors of a kind were fixed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.evaluation.matching import DetectionArrays

KINDS = {
    "Cls": "classification: the right place, another class",
    "Loc": "localisation: the right class, IoU below 0.5",
    "Both": "another class and IoU below 0.5",
    "Dupe": "duplicate: the object has a better detection",
    "Bkg": "background: no object there",
    "Miss": "missed: no detection accounts for the object",
}
"""The kinds by TIDE's names."""


class Failures(NamedTuple):
    """Where a detector fails on a split, at IoU 0.5.

    Attributes:
        counts: errors of each of `KINDS`.
        gains: what AP50, in percent, would gain if all errors of a kind were fixed.
        confusion: `[num_categories + 1, num_categories + 1]`: objects of a class (rows) that were found as a class
            (columns), categories by ascending id. The last row holds detections where no object is, the last column
            objects that no detection finds.
    """

    counts: dict[str, int]
    gains: dict[str, float]
    confusion: NDArray[np.int64]


def failures(annotation_file: Path, detections: DetectionArrays, *, min_score: float) -> Failures:
    """Count the errors of a split's detections.

    Args:
        annotation_file: the split's annotations, checked.
        detections: all of them.
        min_score: the confusion matrix takes detections from this score on; TIDE takes all.

    Raises:
        MissingExtraError: hotcoco is not installed.
    """
    hotcoco = import_extra("hotcoco", "inspect")
    content = json.loads(annotation_file.read_bytes())
    images = {image["id"]: number for number, image in enumerate(content["images"], start=1)}
    truth = hotcoco.COCO(_numbered(content, images))
    evaluation = hotcoco.COCOeval(truth, truth.load_res(_as_rows(detections, images)), "bbox")
    evaluation.evaluate()
    errors = evaluation.tide_errors()
    confusion = evaluation.confusion_matrix(min_score=min_score)
    assert confusion["cat_ids"] == sorted(confusion["cat_ids"]), "categories by ascending id"
    return Failures(
        counts={kind: int(errors["counts"][kind]) for kind in KINDS},
        gains={kind: 100 * float(errors["delta_ap"][kind]) for kind in KINDS},
        confusion=np.asarray(confusion["matrix"]).astype(np.int64),
    )


def _numbered(content: dict[str, Any], images: Mapping[int, int]) -> dict[str, Any]:
    """What boxes need of the annotations, with ids from 1: evaluators take a match with number 0 for none.

    Images have numbers in place of their ids, which detections hold as floats: from 2^53 on these are not exact.
    """
    annotations = []
    for number, record in enumerate(content["annotations"], start=1):
        width, height = record["bbox"][2:]
        own = {"id": number, "area": record.get("area", width * height), "iscrowd": record.get("iscrowd", 0)}
        place = {"image_id": images[record["image_id"]], "category_id": record["category_id"], "bbox": record["bbox"]}
        annotations.append(own | place)
    numbered = [{**image, "id": images[image["id"]]} for image in content["images"]]
    return {"images": numbered, "categories": content["categories"], "annotations": annotations}


def _as_rows(detections: DetectionArrays, images: Mapping[int, int]) -> NDArray[np.float64]:
    """`[n, 7]`: the image's number, x, y, width, height, score, category id."""
    boxes = detections.boxes.astype(np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    numbers = [images[image_id] for image_id in detections.image_ids.tolist()]
    columns = (numbers, boxes[:, :2], sizes, detections.scores, detections.category_ids)
    return np.column_stack(columns).astype(np.float64).reshape(-1, 7)
