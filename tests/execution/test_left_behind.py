"""What killed processes leave is removed by the next command, and a storage whose mount has gone takes nothing."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.driver import drive_trial, record_lost_driver
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.temporary import scratch_folder
from dynrcnn_ray.store.files import StoreError, StoreFiles
from tests.prepared import prepared
from tests.training.test_trial import change

HOLDS_ONE = """
import sys
from dynrcnn_ray.execution.temporary import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_scratch_folders_of_killed_processes_alone_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "dynrcnn_ray_scratch_of_somebody").mkdir()
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    killed, lives = (subprocess.Popen([sys.executable, "-c", HOLDS_ONE], **pipes) for _ in range(2))
    assert killed.stdout
    assert lives.stdout
    of_killed, of_living = Path(killed.stdout.readline().strip()), Path(lives.stdout.readline().strip())
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert of_killed.is_dir()
    with scratch_folder() as own:
        assert not of_killed.exists()
        assert of_living.is_dir()
        assert Path(own).is_dir()
        with scratch_folder():
            assert Path(own).is_dir()
    lives.communicate()
    assert [folder.name for folder in tmp_path.iterdir()] == ["dynrcnn_ray_scratch_of_somebody"]


def test_old_files_of_a_folder_are_removed(tmp_path: Path):
    files = StoreFiles.open(tmp_path)
    for name, hours in (("old", 30), ("new", 1)):
        files.write_bytes(f".partial/{name}", b"half")
        then = time.time() - 3600 * hours
        os.utime(tmp_path / ".partial" / name, (then, then))
    files.delete_older(".partial", 24 * 3600)
    files.delete_older("not there", 24 * 3600)
    assert os.listdir(tmp_path / ".partial") == ["new"]


@pytest.mark.slow
def test_a_storage_whose_mount_goes_takes_nothing_more(
    smoke: TrialConfig, reports_of_drivers: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not the next checkpoint, the course or the row of a failure; what it held is as it was when it is back."""
    config = change(smoke, run={"checkpoint_every": 2})
    storage, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    StoreFiles.open(storage).write_bytes(".probe/marker", b"")
    described = TrialJob(prepared(config), "train", "trial", str(storage), ".probe/marker", "unknown")
    save = CheckpointFolder.save

    def save_and_lose(self: CheckpointFolder, *given: Any, **named: Any) -> None:
        save(self, *given, **named)
        if given[1] == 4:
            storage.rename(elsewhere)
            storage.mkdir()

    monkeypatch.setattr(CheckpointFolder, "save", save_and_lose)
    lacks = rf"storage {storage}: on the node \S+ it lacks what the command has left there: its mount has gone"
    with pytest.raises(Exception, match=lacks) as ended:
        drive_trial(described)
    # Tune would try again, and at last have a row written.
    for attempt in (lambda: drive_trial(described), lambda: record_lost_driver(described, ended.value)):
        with pytest.raises(StoreError, match=lacks):
            attempt()
    # These two are written right after the checkpoint with which the mount goes: nobody asks before each file.
    assert {file.parent.name for file in storage.rglob("*") if file.is_file()} <= {"dynamics", "running"}
    monkeypatch.setattr(CheckpointFolder, "save", save)
    storage.rename(tmp_path / "empty")
    elsewhere.rename(storage)
    drive_trial(described)
    assert {"note": "goes on from the checkpoint of step 4"} in reports_of_drivers
    assert reports_of_drivers[-1] == {"ending": "finished"}
