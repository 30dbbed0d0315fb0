"""COCO average precision of a whole split, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L")

_IOU_START, _IOU_STEP = 0.50, 0.05
_ALL_SIZES, _MOST_DETECTIONS = 0, -1


class Detections(NamedTuple):
    """One image's detections.

    Attributes:
        image_id: the image's id in the annotations.
        boxes: `[n, 4]`, xyxy pixels of the original image.
        scores: `[n]`.
        category_ids: `[n]`, ids of the annotations' categories.
        masks: a compressed RLE each, where the model predicts masks.
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray
    masks: Sequence[Any] | None = None


def evaluate_detections(
    annotation_file: Path, detections: Sequence[Detections], *, kind: Literal["bbox", "segm"] = "bbox"
) -> dict[str, float | None]:
    """Average precision in percent of boxes or masks, for each of `METRICS`.

    Crowds count as COCO's rules have it. A metric without any ground truth, such as `AP_L` on small objects, is None.

    Args:
        annotation_file: the split's annotations.
        detections: one entry for each image of the split, in any order.
        kind: what to compare.

    Raises:
        ValueError: an image of the split has no entry, or has two.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(annotation_file))
        _check_each_image_once(ground_truth, detections)
        evaluation = COCOeval(ground_truth, _as_coco(ground_truth, detections, kind), kind)
        evaluation.evaluate()
        evaluation.accumulate()
    # [IoU, recall, category, object size, most detections]; -1 where there is no ground truth.
    precision = evaluation.eval["precision"][:, :, :, :, _MOST_DETECTIONS]
    metrics = {"AP": _mean(precision[..., _ALL_SIZES])}
    for name in METRICS:
        if name[2:].isdigit():
            # By index: the thresholds are a linspace, in which 0.9 is 0.8999999999999999.
            index = round((int(name[2:]) / 100 - _IOU_START) / _IOU_STEP)
            metrics[name] = _mean(precision[index, ..., _ALL_SIZES])
    for index, name in enumerate(("AP_S", "AP_M", "AP_L"), start=1):
        metrics[name] = _mean(precision[..., index])
    return metrics


def _check_each_image_once(ground_truth: COCO, detections: Sequence[Detections]) -> None:
    expected = sorted(ground_truth.getImgIds())
    evaluated = sorted(entry.image_id for entry in detections)
    if evaluated != expected:
        raise ValueError(
            f"evaluation needs each of the split's {len(expected)} images once; it got {len(evaluated)} entries "
            f"for {len(set(evaluated))} images"
        )


def _as_coco(ground_truth: COCO, detections: Sequence[Detections], kind: Literal["bbox", "segm"]) -> COCO:
    """The detections as pycocotools wants them; unlike `loadRes`, this also takes none at all."""
    annotations: list[dict[str, Any]] = []
    for entry in detections:
        corners = entry.boxes.astype(np.float64)
        sizes = corners[:, 2:] - corners[:, :2]
        for index, (corner, size) in enumerate(zip(corners, sizes, strict=True)):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": entry.image_id,
                "category_id": int(entry.category_ids[index]),
                "bbox": [*corner[:2].tolist(), *size.tolist()],
                "area": float(size.prod()),
                "score": float(entry.scores[index]),
                "iscrowd": 0,
            }
            if kind == "segm":
                assert entry.masks is not None, "a model without masks has no mask AP"
                annotation |= {"segmentation": entry.masks[index], "area": float(mask_utils.area(entry.masks[index]))}
            annotations.append(annotation)
    results = COCO()
    dataset: Any = {name: ground_truth.dataset[name] for name in ("images", "categories")}
    results.dataset = dataset | {"annotations": annotations}
    results.createIndex()
    return results


def _mean(precision: np.ndarray) -> float | None:
    valid = precision[precision > -1]
    return 100.0 * float(valid.mean()) if valid.size else None
