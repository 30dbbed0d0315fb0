"""Splits and detections that hold every special case of COCO's rules, and their evaluation by pycocotools."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynrcnn_ray.evaluation.coco_ap import Detections

CATEGORIES = [2, 5, 11, 90]
SIDE = 220


def random_split(rng: np.random.Generator, num_images: int, *, first_id: int = 1) -> dict[str, Any]:
    """Objects of all sizes in the file's own order, crowds in each of three mask formats; category 90 has none."""
    annotations = []
    for image in range(1, num_images + 1):
        for _ in range(rng.integers(0, 9)):
            x, y = rng.integers(0, 60, 2).tolist()
            width, height = rng.integers(4, 150, 2).tolist()
            crowd = int(rng.random() < 0.15)
            annotations.append(
                {
                    "image_id": image * 7,
                    "category_id": int(rng.choice(CATEGORIES[:3])),
                    "bbox": [x, y, width, height],
                    # Unlike the box's, as an object's mask is smaller.
                    "area": width * height * rng.uniform(0.5, 1),
                    "iscrowd": crowd,
                    "segmentation": _segmentation(rng, x, y, width, height, crowd),
                }
            )
    rng.shuffle(annotations)
    for number, annotation in enumerate(annotations, start=first_id):
        annotation["id"] = number
    images = [{"id": image * 7, "width": SIDE, "height": SIDE} for image in range(1, num_images + 1)]
    rng.shuffle(images)
    return {
        "images": images,
        "categories": [{"id": category, "name": str(category)} for category in reversed(CATEGORIES)],
        "annotations": annotations,
    }


def _segmentation(rng: np.random.Generator, x: int, y: int, width: int, height: int, crowd: int) -> Any:
    if not crowd and rng.random() < 0.5:
        return [[x, y, x + width, y, x + width, y + height, x, y + height * 0.7]]
    canvas = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    canvas[y : y + height, x : x + width] = 1
    rle: Any = mask_utils.encode(canvas)
    if crowd:
        flat = np.r_[0, canvas.flatten(order="F"), 1 - canvas[-1, -1]]
        runs = np.diff((flat[1:] != flat[:-1]).nonzero()[0], prepend=0).tolist()
        return {"size": [SIDE, SIDE], "counts": runs}
    return {"size": [SIDE, SIDE], "counts": rle["counts"].decode()}


def random_detections(
    content: dict[str, Any], rng: np.random.Generator, *, copies: int = 3, score_steps: int = 20
) -> list[Detections]:
    """Each object several times at different IoUs, some exactly, many false ones, many equal scores."""
    entries = []
    for image in content["images"]:
        truths = [a for a in content["annotations"] if a["image_id"] == image["id"]] * copies
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (truth["bbox"] for truth in truths)]
        categories = [t["category_id"] if rng.random() < 0.8 else int(rng.choice(CATEGORIES)) for t in truths]
        if rng.random() < 0.3:
            boxes, categories = [], []
        moved = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        moved += rng.choice([0.0, 2.0, 8.0], (len(moved), 1)) * rng.normal(0, 1, moved.shape)
        moved = np.clip(moved, 0, SIDE)
        moved[:, 2:] = np.clip(moved[:, 2:], moved[:, :2] + 1, SIDE + 1)
        scores = (rng.integers(1, score_steps + 1, len(moved)) / score_steps).astype(np.float32)
        masks = [_box_mask(box) for box in moved]
        entries.append(
            Detections(image["id"], moved.astype(np.float32), scores, np.asarray(categories, dtype=np.int64), masks)
        )
    rng.shuffle(entries)
    return entries


def _box_mask(box: np.ndarray) -> Any:
    x1, y1, x2, y2 = box.astype(int)
    canvas = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    canvas[y1:y2, x1:x2] = 1
    return mask_utils.encode(canvas)


def write(folder: Path, content: dict[str, Any]) -> Path:
    """The split as an annotations file."""
    file = folder / "instances_val.json"
    file.write_text(json.dumps(content))
    return file


def by_pycocotools(
    content: dict[str, Any], entries: list[Detections], kind: Literal["bbox", "segm"] = "bbox"
) -> dict[str, float | None]:
    """The metrics from pycocotools' own precision array and its own means."""
    rows: list[dict[str, Any]] = []
    for entry in entries:
        for index, (x1, y1, x2, y2) in enumerate(entry.boxes.astype(np.float64).tolist()):
            row = {"id": len(rows) + 1, "image_id": entry.image_id, "category_id": int(entry.category_ids[index])}
            row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(entry.scores[index]), "iscrowd": 0}
            row["area"] = (x2 - x1) * (y2 - y1)
            if kind == "segm":
                assert entry.masks is not None
                row["segmentation"] = entry.masks[index]
                row["area"] = float(mask_utils.area(entry.masks[index]))
            rows.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = COCO()
        results: Any = COCO()
        truth.dataset = copy.deepcopy(content)
        results.dataset = {"images": content["images"], "categories": content["categories"], "annotations": rows}
        truth.createIndex()
        results.createIndex()
        evaluation = COCOeval(truth, results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 2]
    recall = evaluation.eval["recall"][:, :, 0]

    def mean(values: np.ndarray) -> float | None:
        return 100 * float(values[values > -1].mean()) if (values > -1).any() else None

    metrics = {"AP": mean(precision[..., 0])}
    metrics |= {f"AP{50 + 5 * index}": mean(precision[index, ..., 0]) for index in (0, 2, 4, 5, 6, 8)}
    metrics |= {name: mean(precision[..., size]) for size, name in enumerate(("AP_S", "AP_M", "AP_L"), start=1)}
    return metrics | {f"AR{most}": mean(recall[..., index]) for index, most in enumerate(evaluation.params.maxDets)}
