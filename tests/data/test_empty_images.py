"""Images without objects: left out of training unless they are asked for, counted by the check, kept in evaluation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.loader import eval_loader
from dynrcnn_ray.data.prepare import check_data, prepare_data
from dynrcnn_ray.data.sampler import TrainSampler
from tests.data.broken_sets import HEIGHT, valid_content, write, write_valid

WITH_OBJECTS = [1, 3]


def content_with_empty_images() -> dict[str, Any]:
    """Five images: one without annotations, two with objects, one with a crowd alone, one with a box of no width."""
    content = valid_content()
    content["images"] = [dict(content["images"][0], id=number) for number in (20, 21, 22, 23, 24)]
    objects = content["annotations"]
    content["annotations"] = [
        dict(objects[0], id=1, image_id=21),
        dict(objects[6], id=2, image_id=22),
        dict(objects[0], id=3, image_id=23),
        dict(objects[6], id=4, image_id=23),
        dict(objects[0], id=5, image_id=24, bbox=[40.5, 5.0, 0.4, 12.0]),
    ]
    return content


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    write(tmp_path / "set", "train", content_with_empty_images())
    return tmp_path / "set"


def test_training_sees_images_with_objects_alone(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    assert dataset.images_to_train_on(keep_empty=False).tolist() == WITH_OBJECTS
    assert dataset.images_to_train_on(keep_empty=True).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_the_order_over_some_images_is_the_order_over_a_set_of_those_alone(batch: int) -> None:
    sizes = np.array([(40, 30), (30, 40), (40, 30), (30, 40), (40, 30), (40, 30), (30, 40)])
    some = np.array([0, 2, 3, 5, 6])
    settings: dict[str, Any] = {"global_batch": batch, "total_steps": 20, "seed": 3, "flip_probability": 0.5}
    among_all = [sample for share in TrainSampler(sizes, images=some, **settings) for sample in share]
    alone = [sample for share in TrainSampler(sizes[some], **settings) for sample in share]
    assert among_all == [Sample(int(some[sample.image_index]), *sample[1:]) for sample in alone]
    assert {sample.image_index for sample in among_all} == set(some.tolist())


def test_evaluation_keeps_them(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    seen = [
        target["image_index"]
        for _, targets in eval_loader(dataset, batch_size=2, loader_workers=0)
        for target in targets
    ]
    assert seen == [0, 1, 2, 3, 4]


def test_the_check_counts_them_in_training_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "val", content_with_empty_images() | {"annotations": content_with_empty_images()["annotations"][:-1]})
    data = DataConfig(root=str(root))
    prepared = prepare_data(data)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "images have no objects" in line]
    assert line.startswith(f"note: {root}/annotations/instances_train.json: 3 of 5 images have no objects")
    assert line.endswith("; left out of training; --data.keep-empty-images keeps them")
    prepare_data(data, expected=prepared.fingerprint)
    assert capsys.readouterr().err == ""
    keeping = check_data(dataclasses.replace(data, keep_empty_images=True))["train"]
    assert any(str(note).endswith("; trained on too") for note in keeping.faults)


def test_a_set_whose_every_image_has_objects_gets_no_note(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "train", valid_content())
    prepare_data(DataConfig(root=str(root)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "change",
    [{"iscrowd": 1}, {"bbox": [10.0, HEIGHT + 0.5, 12.0, 0.4]}, {"bbox": [4.0, 5.0, 12.0, 0.0]}],
    ids=["crowds", "outside by rounding", "flat"],
)
def test_nothing_to_train_on_is_one_line(root: Path, change: dict[str, Any], keep: bool) -> None:
    content = valid_content()
    for record in content["annotations"]:
        record |= change
    write(root, "train", content)
    with pytest.raises(DataError) as caught:
        prepare_data(DataConfig(root=str(root), keep_empty_images=keep))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{root}/annotations/instances_train.json: ")
    with pytest.raises(DataError, match=r"instances_train.json: no image has an object to train on") as caught:
        CocoDataset(root, "train").images_to_train_on(keep_empty=False)
    assert "\n" not in str(caught.value)
