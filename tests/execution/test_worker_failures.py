"""Failures of a trial of two workers: told by their cause, and tried again only where that may help."""

import shutil
from pathlib import Path

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from tests.execution.commands import Command, deaths

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TWO_WORKERS = ("train", "--scale", "smoke", "--num-workers", "2")


def test_a_broken_image_ends_the_trial_at_once_with_its_name(cache_home: Path, smoke: TrialConfig, tmp_path: Path):
    """The file has its size and its end, as the check before a run sees it. One worker's loader meets it."""
    root = Path(shutil.copytree(smoke.data.root, tmp_path / "data"))
    dataset = CocoDataset(root, "train")
    broken = root / "train" / dataset.file_names[3]
    content = broken.read_bytes()
    # A Huffman table of nonsense.
    at = content.index(b"\xff\xc4") + 5
    broken.write_bytes(content[:at] + b"\xff" * 16 + content[at + 16 :])
    command = Command(cache_home, tmp_path / "store")

    code, out = command.run(*TWO_WORKERS, "--data.root", str(root), "--run.loader-workers", "1", "--run.log-every", "1")

    assert code == 1, out
    (trial,) = command.trials().to_dict("records")
    named = f"DataError: {broken}: image {dataset.image_ids[3]} cannot be read ("
    assert trial["error"].startswith(("worker 0: " + named, "worker 1: " + named))
    assert f"failed: {trial['error']}" in out
    assert "interrupted" not in out
    assert "in _load_image" in trial["traceback"]


def test_workers_that_end_while_they_start_end_the_trial(cache_home: Path, tmp_path: Path):
    """Ray Train itself would start them on and on."""
    command = Command(cache_home, tmp_path / "store", deaths({"at_every_start": "self"}, tmp_path))
    code, out = command.run(*TWO_WORKERS, "--run.max-failures", "0")
    assert code == 1, out
    (trial,) = command.trials().to_dict("records")
    assert trial["error"].startswith("workers ended while they started, 1 times in a row: ")
