"""Data sets as tools export them are found by themselves, and are the same data set in every layout."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, from_yaml, validate
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.layout import find_split
from dynrcnn_ray.data.prepare import data_here, fingerprint, prepare_data
from dynrcnn_ray.data.presence import annotations_digest
from dynrcnn_ray.data.sampler import TrainSampler
from dynrcnn_ray.execution.searched import with_part_kept_out
from tests.data.broken_sets import annotation_file, valid_content, write_valid


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return written(tmp_path / "set")


def written(root: Path) -> Path:
    """A data set with the same images in both splits: some tools have them in one folder."""
    write_valid(root)
    shutil.copytree(root / "train", root / "val", dirs_exist_ok=True)
    return root


def move(root: Path, split: str, annotations: str, images: str) -> None:
    """Put a split of COCO's layout elsewhere."""
    content, pictures = annotation_file(root, split).read_bytes(), root / "pictures"
    (root / split).rename(pictures)
    annotation_file(root, split).unlink()
    for place in (root / annotations).parent, root / images:
        place.mkdir(parents=True, exist_ok=True)
    (root / annotations).write_bytes(content)
    shutil.copytree(pictures, root / images, dirs_exist_ok=True)
    shutil.rmtree(pictures)


LAYOUTS = {
    "CVAT": ("annotations/instances_{}.json", "images/{}"),
    "one folder": ("annotations/instances_{}.json", "images"),
    "plain": ("{}.json", "images"),
    "beside": ("{}.json", "."),
    "Roboflow": ("{}/_annotations.coco.json", "{}"),
    "FiftyOne": ("{}/labels.json", "{}/data"),
    "Label Studio": ("{}/result.json", "{}/images"),
}


@pytest.mark.parametrize("tool", LAYOUTS)
@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_every_layout_is_the_same_data_set(root: Path, tool: str, val: str) -> None:
    data = DataConfig(root=str(root))
    expected = prepare_data(data)
    for split, name in (("train", "train"), ("val", val)):
        move(root, split, *(place.format(name) for place in LAYOUTS[tool]))
    if not list((root / "annotations").iterdir()):
        (root / "annotations").rmdir()
    assert prepare_data(data) == expected
    files = find_split(root, "val")
    assert files == tuple(root / place.format(val) for place in LAYOUTS[tool])
    assert annotations_digest(data)
    dataset = CocoDataset(root, "val")
    assert dataset[Sample(0, flip=False)][0].shape == (3, 30, 40)


@pytest.mark.parametrize("tool", LAYOUTS)
def test_a_search_holds_out_images_of_every_layout(root: Path, tool: str) -> None:
    for split in ("train", "val"):
        move(root, split, *(place.format(split) for place in LAYOUTS[tool]))
    data = DataConfig(root=str(root))
    base = Trial(dataclasses.replace(TrialConfig(), data=data), prepare_data(data).inputs)
    searched = with_part_kept_out(base, 0.4, masks=False)
    splits = searched.config.data.train_split, searched.config.data.val_split
    sizes = [len(CocoDataset(searched.inputs.data_root, split)) for split in splits]
    assert sizes == [2, 1]


def test_images_whose_folder_is_renamed_are_found_again(root: Path) -> None:
    """The copy of the annotations in the cache has the names as they are on the disk."""
    data = DataConfig(root=str(root))
    pictures = list((root / "train").iterdir())
    (root / "train" / "before").mkdir()
    for picture in pictures:
        picture.rename(root / "train" / "before" / picture.name)
    for folder in ("before", "after"):
        if folder == "after":
            (root / "train" / "before").rename(root / "train" / "after")
        dataset = CocoDataset(prepare_data(data).root, "train")
        assert dataset.file_names[0].startswith(f"{folder}/")
        assert dataset[Sample(0, flip=False)][0].shape == (3, 30, 40)


def test_a_trial_on_named_files_finds_them_below_another_folder(root: Path, tmp_path: Path) -> None:
    data = named(root)
    trained_on = prepare_data(data).fingerprint
    shutil.rmtree(root)
    written(tmp_path / "here")
    found = prepare_data(data_here(data, str(tmp_path / "here")), expected=trained_on)
    assert found.fingerprint == trained_on
    assert found.root == str(tmp_path / "here")


def test_a_copy_of_another_layout_is_one_of_cocos(root: Path) -> None:
    for split in ("train", "val"):
        move(root, split, *(place.format(split) for place in LAYOUTS["Roboflow"]))
    file = root / "train" / "_annotations.coco.json"
    content = json.loads(file.read_bytes())
    content["annotations"][0]["image_id"] = str(content["annotations"][0]["image_id"])
    file.write_text(json.dumps(content))
    prepared = prepare_data(DataConfig(root=str(root)))
    assert prepared.root != str(root)
    assert find_split(prepared.root, "train") == tuple(
        Path(prepared.root) / name for name in ("annotations/instances_train.json", "train")
    )
    assert len(CocoDataset(prepared.root, "train")) == 3
    assert prepare_data(DataConfig(root=str(root)), expected=prepared.fingerprint) == prepared


def named(root: Path, **fields: Any) -> DataConfig:
    """The data set by its files alone, in places that no layout knows."""
    for split in ("train", "val"):
        move(root, split, f"labels/mine_{split}.json", f"pictures_{split}")
    return DataConfig(
        **{
            "train_annotations": str(root / "labels/mine_train.json"),
            "train_images": str(root / "pictures_train"),
            "val_annotations": str(root / "labels/mine_val.json"),
            "val_images": str(root / "pictures_val"),
        }
        | fields
    )


def test_files_that_are_named_need_no_layout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepare_data(DataConfig(root=str(root)))
    data = named(root)
    validate(dataclasses.replace(TrialConfig(), data=data))
    prepared = prepare_data(data)
    assert prepared.fingerprint == expected.fingerprint == fingerprint(data)
    assert len(CocoDataset(prepared.root, "val")[Sample(2, flip=False)][1]["boxes"]) == 2
    with pytest.raises(DataError, match=rf"^{root}/labels: its annotations and images have the fingerprint"):
        prepare_data(data, expected="0123")
    # Where the copy is not, as on another node, it is made again.
    shutil.rmtree(prepared.root)
    assert prepare_data(data, expected=prepared.fingerprint) == prepared
    places = ((data, prepared), (DataConfig(root=str(root)), expected))
    ids = {Trial(dataclasses.replace(TrialConfig(), data=own), found.inputs).trial_id for own, found in places}
    assert len(ids) == 1, "where the data are decides nothing"


def test_one_split_may_be_named_and_the_other_found(root: Path) -> None:
    data = DataConfig(
        root=str(root),
        val_annotations=str(annotation_file(root, "train")),
        val_images=str(root / "train"),
    )
    prepared = prepare_data(data)
    assert prepared.root != str(root)
    assert prepare_data(data, expected=prepared.fingerprint) == prepared
    assert CocoDataset(prepared.root, "val").image_ids == CocoDataset(root, "train").image_ids


def one_split(root: Path) -> DataConfig:
    shutil.rmtree(root / "val")
    annotation_file(root, "val").unlink()
    move(root, "train", "result.json", "images")
    (root / "annotations").rmdir()
    return DataConfig(root=str(root), val_fraction=0.34)


def test_images_of_one_split_are_held_out(root: Path) -> None:
    data = one_split(root)
    prepared = prepare_data(data)
    train, val = (CocoDataset(prepared.root, split) for split in ("train", "val"))
    assert len(val) == 1
    assert sorted(train.image_ids + val.image_ids) == [11, 12, 15]
    assert sum(part.num_objects(index) for part in (train, val) for index in range(len(part))) == 6
    assert prepare_data(data, expected=prepared.fingerprint) == prepared
    others = [dataclasses.replace(data, val_seed=seed) for seed in range(6)]
    held_out = {CocoDataset(prepare_data(other).root, "val").image_ids[0] for other in others}
    assert len(held_out) > 1, "the seed decides which"
    assert len({fingerprint(other) for other in others}) == len(held_out)
    trial = Trial(dataclasses.replace(TrialConfig(), data=data), prepared.inputs)
    assert "val_fraction: 0.34" in to_stored(trial), "written down in the row"


def test_leaving_out_a_record_does_not_change_what_is_held_out(root: Path) -> None:
    data = one_split(root)
    before = {split: CocoDataset(prepare_data(data).root, split).image_ids for split in ("train", "val")}
    content = valid_content()
    content["annotations"][0]["bbox"] = [0, 0, -5, 5]
    (root / "result.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"result\.json: bbox of negative width"):
        prepare_data(data)
    after = prepare_data(dataclasses.replace(data, drop_invalid=True))
    assert {split: CocoDataset(after.root, split).image_ids for split in ("train", "val")} == before


def test_what_cannot_be_held_out_is_reported(root: Path) -> None:
    with pytest.raises(DataError, match=r"data\.val_fraction: 0\.2 would divide .*instances_val\.json is there"):
        prepare_data(DataConfig(root=str(root), val_fraction=0.2))
    data = one_split(root)
    with pytest.raises(
        DataError, match=r"result\.json: is the only split, .* hold images out with --data\.val-fraction"
    ):
        prepare_data(dataclasses.replace(data, val_fraction=0.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{root: r, train_annotations: a}", "data.train_annotations: 'a' needs data.train_images beside it"),
        ("{root: r, val_images: a}", "data.val_images: 'a' needs data.val_annotations beside it"),
        ("{val_annotations: a, val_images: b}", "data.val_annotations: 'a' is for validation alone"),
        ("{train_annotations: a, train_images: b}", "hold images out with --data.val-fraction"),
        ("{val_fraction: 0.2}", "data.val_fraction: 0.2 is for data of your own"),
        ("{root: r, val_fraction: 1}", "data.val_fraction: 1 must be less than 1"),
        ("{root: r, val_fraction: 0.2, val_annotations: a, val_images: b}", "give one"),
        ("{root: r, val_fraction: 0.2, val_split: train}", "give another name"),
        (
            "{train_annotations: a, train_images: b, val_annotations: c, val_images: d, val_split: train}",
            "data.val_split: 'train' is the name of data.train_split too",
        ),
    ],
)
def test_data_that_are_named_by_halves(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        from_yaml(f"data: {text}")


def colours(photometric: bool, seed: int, step: int) -> Callable[[Path], torch.Tensor]:
    def load(root: Path) -> torch.Tensor:
        dataset = CocoDataset(root, "train")
        settings: Any = {"global_batch": 2, "total_steps": 9, "flip_probability": 0.0}
        sampler = TrainSampler(dataset.sizes, **settings, seed=seed, photometric=photometric)
        return torch.stack([dataset[sample._replace(image_index=0)][0] for sample in sampler.global_batch(step)])

    return load


def test_photometric_distortion_is_a_function_of_seed_and_step(root: Path) -> None:
    plain = colours(False, 0, 3)(root)
    torch.manual_seed(1)
    distorted = colours(True, 0, 3)(root)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1)), "nothing else draws other numbers"
    assert torch.equal(distorted, colours(True, 0, 3)(root))
    assert torch.equal(plain[0], plain[1])
    different = [distorted[0], distorted[1], colours(True, 1, 3)(root)[0], colours(True, 0, 4)(root)[0], plain[0]]
    assert all(not torch.equal(one, other) for i, one in enumerate(different) for other in different[:i])


@pytest.mark.parametrize(
    "whole", ["result.json", "labels.json", "_annotations.coco.json", "annotations/instances_default.json"]
)
def test_a_file_of_all_images_beside_a_split_with_a_name_is_no_validation_split(root: Path, whole: str) -> None:
    """It holds the images of training."""
    shutil.copy(root / "annotations" / "instances_train.json", root / whole)
    (root / "annotations" / "instances_val.json").rename(root / "annotations" / "instances_holdout.json")

    with pytest.raises(
        DataError, match=r"instances_val\.json: cannot be read .*; there is no split 'val', but 'train'"
    ):
        prepare_data(DataConfig(root=str(root)))
