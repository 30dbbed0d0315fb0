"""Images under names that mean the same as those in the annotations are found; others are told where they may be."""

import dataclasses
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.prepare import fingerprint, prepare_data
from tests.data.broken_sets import annotation_file, load_and_measure, valid_content, write, write_valid

Naming = Callable[[str], str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    return tmp_path / "set"


def rename(root: Path, on_disk: Naming, listed: Naming) -> None:
    for split in ("train", "val"):
        content = valid_content()
        for image in content["images"]:
            name = image["file_name"]
            new = root / split / on_disk(name)
            new.parent.mkdir(parents=True, exist_ok=True)
            (root / split / name).rename(new)
            image["file_name"] = listed(name)
        write(root, split, content)


@pytest.mark.parametrize(
    "name",
    [
        lambda name: f"Screenshot 2026-05-12 at 4.42.48\u202fPM {name}",
        lambda name: f"Sn\u00edmek obrazovky v\u00a013.05 {name}",
        lambda name: f"\u3000\u200d\u200b\ufeff{name}",
        lambda name: f"tab\tline\n{name}",
        lambda name: f"100%20 {name}",
        lambda name: f"a\\b{name}",
        lambda name: f"folder/./below/{name}",
    ],
)
def test_any_name_that_is_there_is_taken(root: Path, name: Naming, capsys: pytest.CaptureFixture[str]) -> None:
    rename(root, name, name)
    prepared = prepare_data(DataConfig(root=str(root)))
    assert prepared.root == str(root)
    assert capsys.readouterr().err == ""
    load_and_measure(DataConfig(root=str(root)))


@pytest.mark.parametrize(
    ("on_disk", "listed"),
    [
        (lambda name: name, lambda name: f"train/{name}"),
        (lambda name: name, lambda name: f"./data/images/{name}"),
        (lambda name: f"images/{name}", lambda name: name),
        (lambda name: f"images/{name}", lambda name: f"images\\{name}"),
        (lambda name: name, lambda name: f"\\data\\upload\\1\\{name}"),
        (lambda name: f"a b{name}", lambda name: f"a%20b{name}"),
        (lambda name: unicodedata.normalize("NFD", f"\u00e9t\u00e9{name}"), lambda name: f"\u00e9t\u00e9{name}"),
        (lambda name: f"\u00e9t\u00e9{name}", lambda name: unicodedata.normalize("NFD", f"\u00e9t\u00e9{name}")),
        (lambda name: f"at\u202fPM{name}", lambda name: f"at PM{name}"),
        (lambda name: name.upper(), lambda name: name),
        (lambda name: f"Image{name}", lambda name: f"IMAGE{name}"),
    ],
    ids=["prefix", "two folders", "subfolder", "backslash", "upload", "percent", "nfd", "nfc", "space", "case", "stem"],
)
def test_another_spelling_that_can_mean_one_file_alone_is_taken(
    root: Path, on_disk: Naming, listed: Naming, capsys
) -> None:
    rename(root, on_disk, listed)
    before = annotation_file(root, "train").read_bytes()
    prepared = prepare_data(DataConfig(root=str(root)))
    train, val = capsys.readouterr().err.splitlines()
    assert f"note: {root}/annotations/instances_train.json: {root}/train holds images under other spellings" in train
    assert "3 images (id 11: " in train
    assert "holds images under other spellings" in val
    assert annotation_file(root, "train").read_bytes() == before
    for dataset in load_and_measure(DataConfig(root=prepared.root)).values():
        for index, image_id in enumerate(dataset.image_ids):
            assert str(image_id) in dataset.file_names[index]
    assert prepared.fingerprint == fingerprint(DataConfig(root=str(root)))


def lacks(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare_data(DataConfig(root=str(root)))
    assert "lacks images" in str(caught.value)
    return str(caught.value)


def test_a_file_that_two_names_may_mean_is_taken_for_neither(root: Path) -> None:
    content = valid_content()
    content["images"][0]["file_name"] = "left/11.png"
    content["images"][1]["file_name"] = "right/11.png"
    write(root, "train", content)
    assert "2 images (id 11: 'left/11.png', there is '11.png', id 12: 'right/11.png', there is '11.png')" in lacks(root)
    content["images"][1]["file_name"] = "11.png"
    write(root, "train", content)
    assert "1 image (id 11: 'left/11.png', there is '11.png')" in lacks(root)


def test_a_name_that_may_mean_two_files_is_reported_with_both(root: Path) -> None:
    for folder in ("left", "right"):
        (root / "train" / folder).mkdir()
        (root / "train" / folder / "11.png").write_bytes((root / "train" / "11.png").read_bytes())
    (root / "train" / "11.png").unlink()
    line = lacks(root)
    assert "'left/11.png'" in line
    assert "'right/11.png'" in line


@pytest.mark.parametrize(("listed", "there"), [("camera1/11.png", "camera2/11.png"), ("11.jpg", "11.png")])
def test_what_may_be_another_image_is_named_and_not_taken(root: Path, listed: str, there: str) -> None:
    content = valid_content()
    content["images"][0]["file_name"] = listed
    write(root, "train", content)
    (root / "train" / "camera2").mkdir()
    (root / "train" / "11.png").rename(root / "train" / there)
    assert f"1 image (id 11: '{listed}', there is '{there}'); restore them" in lacks(root)


def test_a_folder_that_is_not_there_is_the_cause(root: Path) -> None:
    (root / "val").rename(root / "validation")
    for drop in (False, True):
        with pytest.raises(DataError) as caught:
            prepare_data(DataConfig(root=str(root), drop_invalid=drop))
        (line,) = str(caught.value).splitlines()
        assert f"there is no folder {root}/val for the images" in line
        assert "check data.root and the name of the split" in line


def test_the_pixels_are_those_of_the_file_that_is_meant(root: Path) -> None:
    grey = {11: 10, 12: 100, 15: 200}
    for image_id, value in grey.items():
        Image.new("RGB", (40, 30), (value,) * 3).save(root / "train" / f"{image_id}.png")
    rename(root, lambda name: f"shots/{name}", lambda name: name.upper())
    dataset = CocoDataset(prepare_data(DataConfig(root=str(root))).root, "train")
    seen = [np.unique(dataset[Sample(index, flip=False)][0].numpy()).tolist() for index in range(3)]
    assert seen == [[value] for value in grey.values()]
    dropping = dataclasses.replace(DataConfig(root=str(root)), drop_invalid=True)
    assert len(CocoDataset(prepare_data(dropping).root, "train")) == 3
