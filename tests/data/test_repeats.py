"""What a data set has twice is told: a file under several names, an object, an image in both splits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.prepare import check_data
from tests.data.broken_sets import annotation_file, valid_content, write, write_valid


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    return tmp_path / "set"


def notes(root: Path, **fields: Any) -> list[str]:
    splits = check_data(DataConfig(root=str(root), **fields))
    assert not any(split.errors for split in splits.values())
    return [str(fault) for split in splits.values() for fault in split.faults]


def a_file_under_two_ids(content: dict[str, Any]) -> None:
    content["images"].append({**content["images"][0], "id": 999})


def a_file_in_another_spelling(content: dict[str, Any]) -> None:
    a_file_under_two_ids(content)
    content["images"][-1]["file_name"] = f"./{content['images'][0]['file_name']}"


def an_object_of_two_exports(content: dict[str, Any]) -> None:
    first = 1000 * len(content["annotations"])
    content["annotations"] += [{**each, "id": first + each["id"]} for each in content["annotations"]]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            a_file_under_two_ids,
            "file_name of several images: 2 images (id 11: file_name '11.png', id 999: file_name '11",
        ),
        (
            a_file_in_another_spelling,
            "file_name of several images: 2 images (id 11: file_name '11.png', id 999: file_na",
        ),
        (an_object_of_two_exports, "image, category and box of another annotation: "),
    ],
)
def test_what_a_split_has_twice_is_noted(
    root: Path, split: str, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    content = valid_content()
    change(content)
    line = f"{annotation_file(root, split)}: {told}"
    assert not any(each.startswith(line) for each in notes(root))

    write(root, split, content)

    assert any(each.startswith(line) for each in notes(root))


def test_every_object_but_the_first_of_its_kind_counts_as_repeated(root: Path) -> None:
    """A crowd is none."""
    content = valid_content()
    objects = sum(not each["iscrowd"] for each in content["annotations"])
    assert objects < len(content["annotations"])
    for _ in range(2):
        an_object_of_two_exports(content)
    write(root, "train", content)

    (line,) = (line for line in notes(root) if "box of another annotation" in line)

    assert f"box of another annotation: {3 * objects} annotations (id " in line
    assert line.endswith("trained on twice; leave one of them out")


def test_images_of_both_splits_are_noted(root: Path) -> None:
    """Under another name too: their bytes are the same."""
    assert not any("among those of training" in line for line in notes(root))
    shutil.copy(root / "train" / "12.png", root / "val" / "15.png")

    (line,) = (line for line in notes(root) if "among those of training" in line)

    assert "instances_val.json: 1 of 3 images are also among those of training (15.png); average precision" in line


def test_a_file_that_is_listed_twice_may_be_held_out_and_trained_on(root: Path) -> None:
    content = valid_content()
    content["images"] += [{**image, "id": 100 + image["id"]} for image in content["images"]]
    annotation_file(root, "val").unlink()
    shutil.rmtree(root / "val")
    write(root, "train", content)

    told = notes(root, val_fraction=0.5)

    assert any("file_name of several images: 6 images" in line for line in told), json.dumps(told, indent=1)
    assert any("images are also among those of training" in line for line in told)


def test_a_class_without_objects_in_training_is_noted(root: Path) -> None:
    content = valid_content()
    absent = min(each["category_id"] for each in content["annotations"])
    left = [each for each in content["annotations"] if each["category_id"] != absent]
    count = sum(each["category_id"] == absent and not each["iscrowd"] for each in content["annotations"])
    names = {category["id"]: category["name"] for category in content["categories"]}
    write(root, "train", content | {"annotations": left})

    (line,) = (line for line in notes(root) if "has none of" in line)

    assert f"objects of classes that instances_train.json has none of ({names[absent]!r} {count}); a detector" in line


def test_areas_of_zero_are_noted_where_they_count(root: Path) -> None:
    content = valid_content()
    for record in content["annotations"]:
        record["area"] = 0
    for split in ("train", "val"):
        write(root, split, content)

    (line,) = (line for line in notes(root) if "'area' of 0" in line)

    assert (
        f"instances_val.json: 'area' of 0, by which AP_S, AP_M and AP_L sort objects: {len(content['annotations'])}"
        in line
    )
