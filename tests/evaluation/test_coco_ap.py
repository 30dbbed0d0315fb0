import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynrcnn_ray.evaluation.coco_ap import Detections, evaluate_detections

CATEGORIES = [2, 5, 11]


def write_split(folder: Path, rng: np.random.Generator, num_images: int) -> Path:
    annotations = []
    for image in range(1, num_images + 1):
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, 200, 2)
            width, height = rng.uniform(5, 150, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image * 7,
                    "category_id": int(rng.choice(CATEGORIES)),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    content = {
        "images": [{"id": image * 7, "width": 400, "height": 400} for image in range(1, num_images + 1)],
        "categories": [{"id": category, "name": str(category)} for category in CATEGORIES],
        "annotations": annotations,
    }
    file = folder / "instances_val.json"
    file.write_text(json.dumps(content))
    return file


def random_detections(file: Path, rng: np.random.Generator, *, share: float) -> list[Detections]:
    """Ground truths moved a little, some missing, some with a wrong class, and false ones."""
    content = json.loads(file.read_text())
    entries = []
    for image in content["images"]:
        truths = [a for a in content["annotations"] if a["image_id"] == image["id"] and rng.random() < share]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (truth["bbox"] for truth in truths)]
        categories = [truth["category_id"] for truth in truths]
        if share:
            boxes += [[5.0, 5.0, 60.0, 90.0]] * 2
            categories += [2, 5]
        moved = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        moved += rng.normal(0, 4, moved.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        entries.append(Detections(image["id"], moved, rng.random(len(moved)), np.asarray(categories, dtype=np.int64)))
    return entries


def by_pycocotools(file: Path, entries: list[Detections]) -> np.ndarray:
    rows = [
        [entry.image_id, x1, y1, x2 - x1, y2 - y1, score, category]
        for entry in entries
        for (x1, y1, x2, y2), score, category in zip(entry.boxes, entry.scores, entry.category_ids, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluation = COCOeval(truth, truth.loadRes(np.asarray(rows)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    file = write_split(tmp_path, rng, 20)
    entries = random_detections(file, rng, share=0.8)
    expected = by_pycocotools(file, entries)
    rng.shuffle(entries)
    metrics = evaluate_detections(file, entries)
    names = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
    assert [metrics[name] for name in names] == pytest.approx(100 * expected.stats[:6], abs=1e-9)
    for name, index in {"AP60": 2, "AP70": 4, "AP80": 6, "AP90": 8}.items():
        precision = expected.eval["precision"][index, :, :, 0, 2]
        assert metrics[name] == pytest.approx(100 * precision[precision > -1].mean(), abs=1e-9)
    assert metrics["AP50"] > metrics["AP90"] > 0


def test_no_detections_at_all_score_zero(tmp_path: Path):
    rng = np.random.default_rng(0)
    file = write_split(tmp_path, rng, 6)
    assert evaluate_detections(file, random_detections(file, rng, share=0.0))["AP"] == 0


def test_no_ground_truth_at_all_has_no_metric(tmp_path: Path):
    file = write_split(tmp_path, np.random.default_rng(0), 3)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"annotations": []}))
    entries = [Detections(image["id"], np.empty((0, 4)), np.empty(0), np.empty(0, int)) for image in content["images"]]
    assert set(evaluate_detections(file, entries).values()) == {None}


def test_each_image_counts_once(tmp_path: Path):
    rng = np.random.default_rng(1)
    file = write_split(tmp_path, rng, 5)
    entries = random_detections(file, rng, share=0.8)
    with pytest.raises(ValueError, match="each of the split's 5 images once"):
        evaluate_detections(file, entries[:-1])
    with pytest.raises(ValueError, match="6 entries for 5 images"):
        evaluate_detections(file, [*entries, entries[0]])
