"""A data set is the same where all its bytes are the same, images too; what has not changed is not read again."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dynrcnn_ray.config.sections import DataConfig, ShapesConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data import image_identity
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.prepare import fingerprint, prepare_data
from tests.data.broken_sets import HEIGHT, WIDTH, write_valid


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that are hashed from now on."""
    names: list[str] = []
    digest = image_identity._digest

    def recorded(file: Path) -> str:
        names.append(f"{file.parent.name}/{file.name}")
        return digest(file)

    monkeypatch.setattr(image_identity, "_digest", recorded)
    return names


def black(file: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(file)


@pytest.mark.parametrize("split", ["train", "val"])
def test_another_picture_is_another_data_set(root: Path, split: str) -> None:
    data = DataConfig(root=str(root))
    before = prepare_data(data)
    black(root / split / "12.png")
    after = prepare_data(data)
    assert after.fingerprint == fingerprint(data) != before.fingerprint
    assert Trial(TrialConfig(data=data), after.inputs).trial_id != Trial(TrialConfig(data=data), before.inputs).trial_id
    with pytest.raises(DataError, match=f"but the trial began with {before.fingerprint}"):
        prepare_data(data, expected=before.fingerprint)


def test_the_same_bytes_elsewhere_are_the_same_data_set(root: Path, tmp_path: Path) -> None:
    there = shutil.copytree(root, tmp_path / "there", copy_function=shutil.copy)
    for file in there.rglob("*.png"):
        os.utime(file, (1, 1))
    own, others = (DataConfig(root=str(place)) for place in (root, there))
    here, copied = prepare_data(own), prepare_data(others)
    assert here.fingerprint == copied.fingerprint
    assert Trial(TrialConfig(data=own), here.inputs).trial_id == Trial(TrialConfig(data=others), copied.inputs).trial_id


def test_images_are_read_once_and_again_when_they_change(root: Path, read: list[str]) -> None:
    data = DataConfig(root=str(root))
    first = fingerprint(data)
    assert sorted(read) == sorted(f"{split}/{number}.png" for split in ("train", "val") for number in (11, 12, 15))
    read.clear()
    assert fingerprint(data) == prepare_data(data).fingerprint == first
    assert read == []
    os.utime(root / "train" / "12.png", (1, 1))
    assert fingerprint(data) == first
    assert read == ["train/12.png"]
    read.clear()
    black(root / "val" / "15.png")
    assert fingerprint(data) != first
    assert read == ["val/15.png"]


def test_other_bytes_with_the_size_and_the_time_of_those_before_are_noticed(root: Path) -> None:
    """As `cp -p`, rsync and archives write them: a file's own time says nothing, the disk's does."""
    data, file = DataConfig(root=str(root)), root / "train" / "12.png"
    before, first = file.stat(), fingerprint(data)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)

    assert fingerprint(data) != first


def test_nothing_is_written_into_the_data_set_and_a_spoilt_cache_is_none(root: Path, tmp_path: Path) -> None:
    before = sorted(root.rglob("*"))
    first = fingerprint(DataConfig(root=str(root)))
    assert sorted(root.rglob("*")) == before
    files = list((tmp_path / "cache" / "dynrcnn_ray" / "image_hashes").iterdir())
    assert len(files) == 2
    for text in ("", "[]", '{"11.png": 3}', '{"11.png": [1, 2]}', "null"):
        for file in files:
            file.write_text(text)
        assert fingerprint(DataConfig(root=str(root))) == first


def test_images_that_no_annotation_names_do_not_count(root: Path) -> None:
    first = fingerprint(DataConfig(root=str(root)))
    black(root / "train" / "another.png")
    assert fingerprint(DataConfig(root=str(root))) == first


def test_two_sets_that_share_their_annotations_are_two(root: Path, tmp_path: Path) -> None:
    thermal = shutil.copytree(root, tmp_path / "thermal")
    for file in thermal.rglob("*.png"):
        black(file)
    (thermal / "annotations").rename(tmp_path / "annotations")
    (thermal / "annotations").symlink_to(root / "annotations")
    assert fingerprint(DataConfig(root=str(thermal))) != fingerprint(DataConfig(root=str(root)))


def test_what_is_left_out_does_not_count_and_that_it_is_left_out_does(root: Path) -> None:
    data = DataConfig(root=str(root), drop_invalid=True)
    whole = fingerprint(data)
    (root / "train" / "12.png").write_bytes(b"no image")
    spoilt = fingerprint(data)
    (root / "train" / "12.png").write_bytes(b"no image either")
    assert fingerprint(data) == spoilt != whole


def test_generated_shapes_are_known_by_their_recipe(tmp_path: Path, monkeypatch, read: list[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shapes = DataConfig(shapes=ShapesConfig(train_images=2, val_images=2, image_size=32))
    assert prepare_data(shapes).fingerprint == fingerprint(shapes)
    assert prepare_data(dataclasses.replace(shapes, drop_invalid=True)).fingerprint == fingerprint(shapes)
    assert read == []
