"""Per-class numbers equal to hotcoco's; every kind of error by construction."""

import json
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest

from dynrcnn_ray.config import extras
from dynrcnn_ray.config.extras import MissingExtraError
from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
from dynrcnn_ray.evaluation.matching import DetectionArrays, match
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.inspect.class_numbers import class_numbers
from dynrcnn_ray.tools.inspect.error_kinds import failures
from dynrcnn_ray.tools.inspect.inspect_trial import inspect_detections
from dynrcnn_ray.tools.inspect.inspection import inspected_trials, read_inspection, write_inspection

CAT, DOG, EMU = 3, 7, 9


def write_truth(file: Path, objects: list[tuple[int, int, list[float], int]]) -> Path:
    content = {
        "images": [
            {"id": number, "width": 300, "height": 300, "file_name": f"{number}.png"} for number in range(1, 31)
        ],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}, {"id": EMU, "name": "emu"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
            | {"iscrowd": crowd}
            # From 0: no id may stand for none.
            for number, (image, category, box, crowd) in enumerate(objects)
        ],
    }
    file.write_text(json.dumps(content))
    return file


def detections(rows: list[tuple[int, int, list[float], float]]) -> DetectionArrays:
    boxes = np.array([box for _, _, box, _ in rows], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    images, categories, scores = (np.array([row[at] for row in rows]) for at in (0, 1, 3))
    return DetectionArrays(images.astype(np.int64), categories.astype(np.int64), scores, boxes)


def test_image_ids_that_no_float_holds_are_told_apart(tmp_path: Path):
    """As hashes of files are."""
    small = random_case(tmp_path / "small.json", 1)
    content = json.loads((tmp_path / "small.json").read_text())
    for record, key in [
        *((image, "id") for image in content["images"]),
        *((a, "image_id") for a in content["annotations"]),
    ]:
        record[key] += 2**60
    (tmp_path / "large.json").write_text(json.dumps(content))

    of_small = failures(tmp_path / "small.json", small, min_score=0.0)
    of_large = failures(tmp_path / "large.json", small._replace(image_ids=small.image_ids + 2**60), min_score=0.0)

    assert (of_large.counts, of_large.gains) == (of_small.counts, of_small.gains)
    assert of_large.confusion.tolist() == of_small.confusion.tolist()
    assert 0 < of_small.counts["Miss"] < len(content["annotations"])


def random_case(file: Path, seed: int) -> DetectionArrays:
    rng = np.random.default_rng(seed)
    objects: list[tuple[int, int, list[float], int]] = []
    rows: list[tuple[int, int, list[float], float]] = []
    for image in range(1, 31):
        for _ in range(rng.integers(0, 6)):
            box = [float(value) for value in (*rng.integers(0, 200, 2), *rng.integers(10, 90, 2))]
            category = int(rng.choice([CAT, DOG]))
            objects.append((image, category, box, int(rng.random() < 0.1)))
            for _ in range(rng.integers(0, 4)):
                near = [value + float(shift) for value, shift in zip(box, rng.normal(0, 5, 4), strict=True)]
                near[2:] = [max(side, 2.0) for side in near[2:]]
                label = category if rng.random() < 0.8 else int(rng.choice([CAT, DOG, EMU]))
                rows.append((image, label, near, float(np.float32(rng.random()))))
    write_truth(file, objects)
    return detections(rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_of_each_class_are_those_of_hotcoco(tmp_path: Path, seed: int):
    file = tmp_path / "truth.json"
    found = random_case(file, seed)
    numbers = dict(zip((CAT, DOG, EMU), class_numbers(match(read_ground_truth(file), found)), strict=True))

    content = json.loads(file.read_text())
    for number, record in enumerate(content["annotations"], start=1):
        record["id"] = number
    truth = hotcoco.COCO(content)
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    rows = np.column_stack([found.image_ids, found.boxes[:, :2], sizes, found.scores, found.category_ids])
    theirs = hotcoco.COCOeval(truth, truth.load_res(rows), "bbox")
    theirs.evaluate()
    theirs.accumulate()
    assert theirs.eval is not None
    precision, recall = theirs.eval["precision"], theirs.eval["recall"]  # [iou, recall, class, area, detections]
    for at, category in enumerate((CAT, DOG)):
        own = numbers[category]
        assert own.ap == pytest.approx(100 * precision[:, :, at, 0, 2].mean(), abs=1e-9)
        assert own.ap50 == pytest.approx(100 * precision[0, :, at, 0, 2].mean(), abs=1e-9)
        assert own.ap75 == pytest.approx(100 * precision[5, :, at, 0, 2].mean(), abs=1e-9)
        assert own.ar == pytest.approx(100 * recall[:, at, 0, 2].mean(), abs=1e-9)
        assert own.precision == pytest.approx(100 * precision[0, :, at, 0, 2], abs=1e-9)
    assert numbers[EMU][2:] == (None,) * 5
    assert numbers[EMU].objects == 0
    assert numbers[EMU].detections == (found.category_ids == EMU).sum()


def one_of_each(folder: Path) -> tuple[Path, DetectionArrays]:
    box = [10.0, 10.0, 50.0, 50.0]
    objects = [(1, CAT, box, 0), (2, DOG, box, 0), (3, CAT, box, 0), (4, DOG, box, 0), (5, CAT, box, 0)]
    rows: Any = [
        (1, CAT, box, 0.9),  # right
        (1, CAT, [11.0, 10.0, 50.0, 50.0], 0.8),  # duplicate
        (2, CAT, box, 0.7),  # classification
        (3, CAT, [40.0, 10.0, 50.0, 50.0], 0.6),  # localisation: IoU 0.25
        (4, CAT, [40.0, 10.0, 50.0, 50.0], 0.5),  # both
        (5, DOG, [200.0, 200.0, 50.0, 50.0], 0.4),  # background; the cat there is missed
    ]
    return write_truth(folder / "truth.json", objects), detections(rows)


def test_every_error_has_its_kind(tmp_path: Path):
    found = failures(*one_of_each(tmp_path), min_score=0.0)
    assert {kind: found.counts[kind] for kind in ("Cls", "Loc", "Both", "Dupe", "Bkg")} == dict.fromkeys(
        ("Cls", "Loc", "Both", "Dupe", "Bkg"), 1
    )
    assert found.counts["Miss"] >= 1
    assert found.gains["Loc"] > 0
    # Rows cat, dog, emu, background; the last column is what nothing finds.
    assert found.confusion.tolist() == [[1, 0, 0, 2], [1, 0, 0, 1], [0, 0, 0, 0], [3, 1, 0, 0]]
    strict = failures(*one_of_each(tmp_path), min_score=0.65)
    assert strict.confusion.tolist() == [[1, 0, 0, 2], [1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert strict.counts == found.counts, "TIDE takes every detection"


def test_what_was_found_is_read_back_from_the_store(tmp_path: Path):
    file, found = one_of_each(tmp_path)
    inspection = inspect_detections(file, {CAT: "cat", DOG: "dog", EMU: "emu"}, found, min_score=0.5)
    store = ResultStore.open(tmp_path / "store")
    assert read_inspection(store, "abc") is None
    write_inspection(store, "abc", *inspection)
    assert inspected_trials(store) == ["abc"]
    read = read_inspection(store, "abc")
    assert read is not None
    assert [row["name"] for row in read.classes] == ["cat", "dog", "emu", "background"]
    for row, before in zip((*read.classes, *read.errors), (*inspection.classes, *inspection.errors), strict=True):
        assert row == {"trial_id": "abc", **dict.fromkeys(row), **before} | {"trial_id": "abc"}


def test_a_missing_package_is_reported_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def without(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras.importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"'hotcoco' is not installed; pip install 'dynrcnn-ray\[inspect\]'$"):
        failures(*one_of_each(tmp_path), min_score=0.5)


def test_nothing_detected(tmp_path: Path):
    file, _ = one_of_each(tmp_path)
    nothing = inspect_detections(file, {}, detections([]), min_score=0.5)
    assert [row.get("AP") for row in nothing.classes] == [0.0, 0.0, None, None]
    assert nothing.errors[-1]["count"] == 5
