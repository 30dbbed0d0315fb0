"""Packs of annotation files: the same data set, read once, and by nobody else's bytes."""

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data import coco, pack
from dynrcnn_ray.data.annotations import DataError, cache_folder
from dynrcnn_ray.data.coco import CocoDataset, Sample


@pytest.fixture(autouse=True)
def root(smoke: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The smoke set, taken for a large one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pack, "_WORTH_IT", 0)
    return shutil.copytree(smoke.data.root, tmp_path / "data")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were parsed, in order."""
    seen: list[Path] = []
    read = coco.read_annotations
    monkeypatch.setattr(coco, "read_annotations", lambda file: seen.append(file) or read(file))
    return seen


def content(dataset: CocoDataset) -> list[Any]:
    return [dataset.class_names, dataset.category_ids, dataset.image_ids, dataset.file_names, dataset.sizes.tolist()]


@pytest.mark.parametrize("include_masks", [False, True])
def test_a_pack_holds_the_data_set_and_is_read_without_the_file(
    include_masks: bool, root: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(pack, "_WORTH_IT", 2**40)
        whole = CocoDataset(root, "train", include_masks=include_masks)
    assert len(parsed) == 1
    written, mapped = (CocoDataset(root, "train", include_masks=include_masks) for _ in range(2))
    assert len(parsed) == 2
    for packed in (written, mapped):
        assert content(packed) == content(whole)
        assert isinstance(packed.sizes, np.memmap)
        for index in range(len(whole)):
            (image, target), (same, expected) = (each[Sample(index, flip=True)] for each in (packed, whole))
            assert torch.equal(image, same)
            assert target.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(torch.as_tensor(target[name]), torch.as_tensor(value)), name


def test_boxes_and_masks_and_other_content_have_packs_of_their_own(root: Path, parsed: list[Path]):
    CocoDataset(root, "train")
    CocoDataset(root, "train", include_masks=True)
    file = root / "annotations" / "instances_train.json"
    changed = json.loads(file.read_text())
    changed["annotations"].pop(0)
    file.write_text(json.dumps(changed))
    fewer = CocoDataset(root, "train")
    assert len(parsed) == 3
    assert sum(map(fewer.num_objects, range(len(fewer)))) <= len(changed["annotations"])
    assert len(list((cache_folder() / "packs").glob("*-*-*[!k]"))) == 3


def test_what_cannot_be_used_leaves_no_pack(root: Path):
    file = root / "annotations" / "instances_train.json"
    broken = json.loads(file.read_text())
    broken["annotations"][0]["bbox"] = [1000, 0, 5, 5]
    file.write_text(json.dumps(broken))
    for _ in range(2):
        with pytest.raises(DataError, match="bbox outside its image"):
            CocoDataset(root, "train")
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        CocoDataset(root, "train")


def test_a_cache_that_cannot_be_written_to_costs_time_alone(root: Path, parsed: list[Path]):
    cache_folder().parent.mkdir()
    cache_folder().write_text("a file in the folder's place")
    for _ in range(2):
        assert len(CocoDataset(root, "train")) == 16
    assert len(parsed) == 2


def read_in_a_process(root: Path, seen: Path) -> None:
    pack._WORTH_IT = 0
    read = coco.read_annotations

    def counted(file: Path) -> Any:
        with seen.open("a") as opened:
            opened.write("parsed\n")
        return read(file)

    coco.read_annotations = counted
    assert len(CocoDataset(root, "train")) == 16


def test_of_many_processes_one_reads_the_file(root: Path, tmp_path: Path):
    processes = [
        multiprocessing.get_context("fork").Process(target=read_in_a_process, args=(root, tmp_path / "seen"))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "seen").read_text() == "parsed\n"
