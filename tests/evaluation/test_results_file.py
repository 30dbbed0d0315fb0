import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from dynrcnn_ray.evaluation.coco_ap import Detections
from dynrcnn_ray.evaluation.results_file import ResultsFileError, check_results, results_bytes

IMAGES, CATEGORIES = [7, 9], [1, 5]


def detections(*, masks: bool) -> list[Detections]:
    mask = np.zeros((40, 50), dtype=np.uint8, order="F")
    mask[4:20, 3:30] = 1
    return [
        Detections(
            image_id=7,
            boxes=np.array([[3.0, 4.0, 30.0, 20.0], [0.0, 0.0, 50.0, 40.0]]),
            scores=np.array([0.9, 0.25], dtype=np.float32),
            category_ids=np.array([5, 1]),
            masks=[mask_utils.encode(mask)] * 2 if masks else None,
        ),
        Detections(9, np.empty((0, 4)), np.empty(0), np.empty(0, dtype=np.int64), [] if masks else None),
    ]


@pytest.mark.parametrize("masks", [False, True])
def test_the_file_is_what_pycocotools_and_the_server_read(tmp_path: Path, masks: bool):
    file = tmp_path / "new" / "detections_test-dev2017_x_results.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(results_bytes(detections(masks=masks)))
    assert check_results(file, image_ids=IMAGES, category_ids=CATEGORIES) == 2

    truth = COCO()
    truth.dataset = {
        "images": [{"id": image, "width": 50, "height": 40} for image in IMAGES],
        "categories": [{"id": category} for category in CATEGORIES],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(str(file)).dataset["annotations"]
    assert [row["bbox"] for row in loaded] == [[3, 4, 27, 16], [0, 0, 50, 40]]
    assert [row["category_id"] for row in loaded] == [5, 1]
    if masks:
        assert mask_utils.area(loaded[0]["segmentation"]) == 16 * 27


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 8}, "detection 1: image_id 8 is not in the split"),
        ({"image_id": [1]}, r"detection 1: image_id \[1\] is not in the split"),
        ({"category_id": 2}, "category_id 2 is no category"),
        ({"category_id": {}}, "category_id {} is no category"),
        ({"bbox": [1, 2, 3]}, "must be four numbers"),
        ({"bbox": [1, 2, -3, 4]}, "with a width and height from 0"),
        ({"bbox": [1, 2, float("nan"), 4]}, "must be finite"),
        ({"bbox": [1, 2, 10**400, 4]}, "must be finite"),
        ({"score": 1.5}, "score 1.5 must be from 0 to 1"),
        ({"score": "high"}, "score 'high' must be from 0 to 1"),
    ],
)
def test_what_the_server_would_refuse_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str):
    file = tmp_path / "results.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(results_bytes(detections(masks=False)))
    rows = json.loads(file.read_text())
    rows[1] |= change
    file.write_text(json.dumps(rows))
    with pytest.raises(ResultsFileError, match=message) as refused:
        check_results(file, image_ids=IMAGES, category_ids=CATEGORIES)
    assert "\n" not in str(refused.value)


def test_a_truncated_file_is_refused(tmp_path: Path):
    file = tmp_path / "results.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(results_bytes(detections(masks=False)))
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ResultsFileError, match="no readable JSON"):
        check_results(file, image_ids=IMAGES, category_ids=CATEGORIES)
