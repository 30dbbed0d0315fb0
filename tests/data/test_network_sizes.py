"""Whatever the check lets through reaches the network whole: after clipping, mirroring and resizing."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.check.boxes import clipped_xyxy, has_extent
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.prepare import check_data, prepare_data
from dynrcnn_ray.models.input_size import InputSizeTransform
from tests.data.broken_sets import valid_content, write, write_valid


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    return tmp_path / "set"


def with_strip(root: Path, width: int, height: int) -> None:
    content = valid_content()
    content["images"][1] |= {"width": width, "height": height}
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] != 12]
    content["annotations"].append(content["annotations"][0] | {"id": 50, "image_id": 12, "bbox": [0, 0, width, height]})
    for split in ("train", "val"):
        Image.new("RGB", (width, height)).save(root / split / "12.png")
        write(root, split, content)


def resized(data: DataConfig, width: int, height: int, short_side: int = 0) -> tuple[int, int]:
    transform = InputSizeTransform(data).train()
    target: dict[str, Any] = {"boxes": torch.tensor([[0.0, 0.0, width, height]]), "short_side": short_side}
    image, _ = transform.resize(torch.zeros(3, height, width), target)
    return image.shape[2], image.shape[1]


def test_an_image_too_narrow_for_the_network_is_named_and_can_be_left_out(root: Path) -> None:
    data = DataConfig(root=str(root), short_side=64, long_side=64)
    with_strip(root, 10, 2000)
    with pytest.raises(DataError) as caught:
        prepare_data(data)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "a side of 0 pixels where the long side is resized to 64: 1 image (id 12: 10x2000); cut" in line
    dropping = prepare_data(dataclasses.replace(data, drop_invalid=True))
    assert CocoDataset(dropping.root, "train").image_ids == [11, 15]
    wider = dataclasses.replace(data, long_side=400)
    assert prepare_data(wider).root == str(root)
    assert prepare_data(dataclasses.replace(wider, train_short_sides=(32,), train_long_side=250)).root == str(root)
    with pytest.raises(
        DataError, match=r"instances_train.json: a side of 0 pixels where the long side is resized to 100"
    ):
        prepare_data(dataclasses.replace(wider, train_short_sides=(32,), train_long_side=100))


@pytest.mark.parametrize("long_side", [32, 64, 100, 333])
def test_no_size_that_is_let_through_has_a_side_of_zero_pixels(root: Path, long_side: int) -> None:
    """The widest strips that pass, to the pixel: there rounding decides."""
    data = DataConfig(root=str(root), short_side=32, long_side=long_side)
    for narrow in (1, 2, 3, 7):
        lengths = range(narrow * long_side - 3, narrow * long_side + 4)
        for length in lengths:
            with_strip(root, length, narrow)
            refused = any("a side of 0" in str(fault) for fault in check_data(data)["train"].faults)
            assert refused or min(resized(data, length, narrow)) > 0
            assert not refused or length > 0.99 * narrow * long_side


def test_no_box_that_is_let_through_loses_its_extent(root: Path) -> None:
    rng = np.random.default_rng(0)
    width, height = 1001, 667
    content = valid_content()
    content["images"] = [content["images"][0] | {"width": width, "height": height}]
    thickness = 10 ** rng.uniform(-8, 0, 3000)
    left = rng.uniform(0, width - 21, len(thickness))
    content["annotations"] = [
        content["annotations"][0] | {"id": number, "bbox": [x, 600.0, thin, 20.0] if number % 2 else [x, y, 20.0, thin]}
        for number, (x, y, thin) in enumerate(
            zip(left, rng.uniform(0, height - 21, len(left)), thickness, strict=True), start=1
        )
    ]
    write(root, "train", content)
    Image.new("RGB", (width, height)).save(root / "train" / "11.png")
    data = DataConfig(root=str(root), short_side=333, long_side=1333)
    dataset = CocoDataset(prepare_data(data).root, "train")
    assert 1000 < dataset.num_objects(0) < 2900
    transform = InputSizeTransform(data).train()
    for flip in (False, True):
        image, target = dataset[Sample(0, flip=flip)]
        for short_side in (0, 32, 100, 799):
            _, reached = transform.resize(image.float(), {"boxes": target["boxes"], "short_side": short_side})
            assert (reached["boxes"][:, 2:] > reached["boxes"][:, :2]).all()


def test_boxes_as_thin_as_any_of_cocos_are_kept() -> None:
    """Its annotations have two decimals."""
    sizes = np.array([[640, 640]])
    assert has_extent(clipped_xyxy(np.array([[639.0, 639.0, 0.01, 0.01]]), sizes), sizes).all()


def test_a_box_thinner_than_that_is_left_out_with_a_note(root: Path) -> None:
    content = valid_content()
    content["annotations"].append(content["annotations"][0] | {"id": 60, "bbox": [0.3, 5.0, 1e-6, 20.0]})
    write(root, "train", content)
    (note,) = [str(fault) for fault in check_data(DataConfig(root=str(root)))["train"].faults]
    assert (
        "bbox of (nearly) zero width or height: 1 annotation (id 60: bbox [0.3, 5.0, 1e-06, 20.0]); left out of" in note
    )
    assert CocoDataset(prepare_data(DataConfig(root=str(root))).root, "train").num_objects(0) == 2


def test_a_picture_as_large_as_annotated_is_no_bomb(root: Path) -> None:
    """195 megapixels, where Pillow's limit is 179."""
    content = valid_content()
    width, height = 15_000, 13_000
    Image.new("1", (width, height)).save(root / "val" / "11.png")
    content["images"][0] |= {"width": width, "height": height}
    write(root, "val", content)
    assert check_data(DataConfig(root=str(root)))["val"].errors == []
    content["images"][0] |= {"width": 40, "height": 30}
    write(root, "val", content)
    (error,) = check_data(DataConfig(root=str(root)))["val"].errors
    assert "of another size than annotated: 1 image (id 11: '11.png' 15000x13000, annotated 40x30)" in str(error)
