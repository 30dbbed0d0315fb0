import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.sections import ShapesConfig
from dynrcnn_ray.data import shapes
from dynrcnn_ray.data.coco import CocoDataset, DataError, Sample
from dynrcnn_ray.data.shapes import CATEGORIES, GENERATOR_VERSION, generate_shapes, is_generated

RECIPE = ShapesConfig(train_images=400, val_images=50, image_size=64)
SMALL = ShapesConfig(train_images=3, val_images=2, image_size=64)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cache") / "deep" / "shapes"
    generate_shapes(RECIPE, root)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def annotations(root: Path, split: str = "train") -> dict[str, Any]:
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def test_splits_and_categories(root: Path) -> None:
    for split, count in (("train", 400), ("val", 50)):
        content = annotations(root, split)
        assert len(content["images"]) == len(list((root / split).iterdir())) == count
        assert {category["id"]: category["name"] for category in content["categories"]} == CATEGORIES
        assert [record["id"] for record in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    assert set(CATEGORIES) != set(range(1, len(CATEGORIES) + 1))


def test_sizes_are_those_of_the_files(root: Path) -> None:
    sizes = [(image["width"], image["height"]) for image in annotations(root)["images"]]
    files = [root / "train" / image["file_name"] for image in annotations(root)["images"]]
    assert sizes == [Image.open(file).size for file in files]
    assert set(sizes) == {(64, 64), (64, 48), (48, 64)}


def test_annotations_agree_with_their_masks(root: Path) -> None:
    content = annotations(root)
    size = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for record in content["annotations"]:
        height, width = size[record["image_id"]]
        segmentation: Any = record["segmentation"]
        if isinstance(segmentation, list):
            segmentation = mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
        mask = np.asarray(mask_utils.decode(segmentation))
        rows, columns = np.nonzero(mask)
        assert mask.shape == (height, width)
        assert record["area"] == mask.sum() > 0
        left, top, box_width, box_height = record["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + box_width, top + box_height) == (columns.max() + 1, rows.max() + 1)


def test_variety(root: Path) -> None:
    content = annotations(root)
    objects = [record for record in content["annotations"] if not record["iscrowd"]]
    assert {record["category_id"] for record in objects} == set(CATEGORIES)
    counts = np.bincount([record["image_id"] for record in objects], minlength=401)[1:]
    assert counts.min() == 0
    assert counts.max() == 5
    assert any(record["iscrowd"] for record in content["annotations"])
    assert {type(record["segmentation"]) for record in objects} == {list, dict}


def test_polygons_do_not_overlap_later_shapes(root: Path) -> None:
    dataset = CocoDataset(root, "train", include_masks=True)
    for index in range(len(dataset)):
        masks = dataset[Sample(index, False)][1]["masks"].to(torch.int64)
        # A polygon's own rasterisation may differ from the drawing by the pixels along its edge.
        assert (masks.sum(0) > 1).float().mean() < 0.01


def test_same_recipe_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        generate_shapes(SMALL, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    generate_shapes(ShapesConfig(train_images=3, val_images=2, image_size=64, seed=1), tmp_path / "seed")
    assert contents(tmp_path / "seed") != contents(tmp_path / "one")


def test_the_pictures_are_those_that_the_reference_results_were_trained_on(root: Path) -> None:
    """With the versions of constraints.txt. Pictures that are meant to differ need another GENERATOR_VERSION."""
    drawn = hashlib.sha256()
    for file in sorted([*root.rglob("*.jpg"), *root.rglob("instances_*.json")]):
        drawn.update(file.read_bytes())
    assert (GENERATOR_VERSION, drawn.hexdigest()[:16]) == (1, "a228d00e29d66ba5")


def test_more_images_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    generate_shapes(SMALL, tmp_path / "few")
    generate_shapes(ShapesConfig(train_images=5, val_images=2, image_size=64), tmp_path / "more")
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert all(more[name] == few[name] for name in few if name.endswith(".jpg"))


def test_smallest_size(tmp_path: Path) -> None:
    generate_shapes(ShapesConfig(train_images=20, val_images=1, image_size=32), tmp_path / "tiny")
    dataset = CocoDataset(tmp_path / "tiny", "train", include_masks=True)
    assert all(len(dataset[Sample(index, True)][1]["boxes"]) <= 8 for index in range(20))


def test_whole_set_is_left_alone(tmp_path: Path) -> None:
    generate_shapes(SMALL, tmp_path / "set")
    marker = tmp_path / "set" / "marker"
    marker.touch()
    generate_shapes(SMALL, tmp_path / "set")
    assert marker.exists()


def test_all_racers_succeed_and_leave_nothing_behind(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def race() -> None:
        start.wait()
        try:
            generate_shapes(SMALL, tmp_path / "set")
        except BaseException as error:
            errors.append(error)

    racers = [threading.Thread(target=race) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert errors == []
    assert [file.name for file in tmp_path.iterdir()] == ["set"]
    generate_shapes(SMALL, tmp_path / "alone")
    assert contents(tmp_path / "set") == contents(tmp_path / "alone")


def test_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(shapes, "_draw", full_disk)
    with pytest.raises(DataError, match=r"set: cannot be read or written \(no space left\); make room, "):
        generate_shapes(SMALL, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / "precious").touch()
    assert not is_generated(root)
    with pytest.raises(DataError, match="set: exists but is not a whole data set; move it away"):
        generate_shapes(SMALL, root)
    assert [file.name for file in tmp_path.rglob("*")] == ["set", "precious"]
