"""Every file of a store says where it belongs: what was written of another trial or data set is never taken."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dynrcnn_ray.paper.drawn import figures_of_stored
from dynrcnn_ray.paper.speed_table import SPEED_FILE, speed_parquet
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE, findings_parquet
from dynrcnn_ray.report.report import draw_report
from dynrcnn_ray.store import folds
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.parquet import CHECKSUM_KEY
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import (
    DETECTIONS,
    DYNAMICS,
    IMAGES,
    PLAN,
    PROPOSALS,
    SCHEMA_VERSION,
    SPEED,
    STATISTICS,
    TRIALS,
    VERSION_KEY,
)
from dynrcnn_ray.tools.inspect.inspection import CLASSES, ERRORS, read_inspection, write_inspection
from tests.stored_table import dynamics_rows, plan_row, trial_row

REFERENCES = sorted((Path(__file__).resolve().parents[2] / "experiments").glob("reference_*"))
NAME_KEY = b"dynrcnn_ray.file"

SCHEMAS = {
    "trials": TRIALS,
    "running": TRIALS,
    "dynamics": DYNAMICS,
    "proposals": PROPOSALS,
    "statistics": STATISTICS,
    "detections": DETECTIONS,
    "images": IMAGES,
    "classes": CLASSES,
    "errors": ERRORS,
    "plans": PLAN,
}
"""The folders of files that are known by a trial, a data set or an experiment."""


def write_of(store: ResultStore, name: str) -> None:
    """A file of each folder, whose rows say nothing that another's would not say."""
    store.write_trial(trial_row(name))
    store.write_running(trial_row(name, status="running"))
    store.write_dynamics(name, dynamics_rows(0, seed=0))
    store.write_images(name, [image(["cat", "dog"] if name == "a" else ["cell"])])
    store.write_plan(name, [plan_row(0)])
    for write, schema in (
        (store.write_proposals, PROPOSALS),
        (store.write_statistics, STATISTICS),
        (store.write_detections, DETECTIONS),
    ):
        write(name, {field.name: np.empty(0) for field in schema if field.name != "trial_id"})
    write_inspection(store, name, [class_row()], [error_row()])


def image(names: list[str]) -> dict[str, Any]:
    shown = {"image_id": 1, "file_name": "x.jpg", "width": 8, "height": 8, "jpeg": b"x", "boxes": []}
    return shown | {"box_categories": [], "category_names": dict(enumerate(names, start=1))}


def class_row() -> dict[str, Any]:
    return {"category_id": 1, "name": "cat", "objects": 3, "detections": 4, "found_as": [2, 1]}


def error_row() -> dict[str, Any]:
    return {"kind": "Cls", "meaning": "another class", "count": 1, "AP50_gain": 0.5, "min_score": 0.5}


def readers(store: ResultStore, name: str) -> dict[str, Callable[[], Any]]:
    """How the package reads a file of each folder."""
    return {
        "trials": lambda: store.trials([name]),
        "running": lambda: store.trials_so_far([name]),
        "dynamics": lambda: store.dynamics([name]),
        "proposals": lambda: store.proposals([name]),
        "statistics": lambda: store.statistics([name]),
        "detections": lambda: store.detections([name]),
        "images": lambda: store.images(name),
        "plans": lambda: store.plan(name),
        "classes": lambda: read_inspection(store, name),
        "errors": lambda: read_inspection(store, name),
    }


@pytest.mark.parametrize("folder", SCHEMAS)
def test_a_file_of_another_is_refused(store: ResultStore, tmp_path: Path, folder: str):
    for name in ("a", "b"):
        write_of(store, name)
    path = tmp_path / "storage" / folder / "b.parquet"
    read = readers(store, "b")[folder]
    read()
    shutil.copy(path.with_name("a.parquet"), path)
    with pytest.raises(StoreError) as caught:
        read()
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert "move it" in text
    assert "\n" not in text


@pytest.mark.parametrize("folder", ["trials", "dynamics", "classes", "errors", "plans"])
def test_files_of_older_releases_are_known_by_their_rows(store: ResultStore, tmp_path: Path, folder: str):
    for name in ("a", "b"):
        write_of(store, name)
    path = tmp_path / "storage" / folder / "b.parquet"
    for file in path.parent.iterdir():
        pq.write_table(pq.ParquetFile(file).read().replace_schema_metadata({VERSION_KEY: SCHEMA_VERSION}), file)
    read = readers(store, "b")[folder]
    read()
    shutil.copy(path.with_name("a.parquet"), path)
    with pytest.raises(StoreError, match="not its own; move it"):
        read()


def test_speeds_and_findings_in_each_others_places(store: ResultStore, tmp_path: Path):
    store.files.write_bytes(SPEED_FILE, speed_parquet([]))
    store.files.write_bytes(FINDINGS_FILE, findings_parquet([], "findings", 0))
    assert store.read_table(SPEED_FILE, SPEED) is not None
    assert store.read_table(FINDINGS_FILE, FINDINGS) is not None
    shutil.copy(tmp_path / "storage" / SPEED_FILE, tmp_path / "storage/tables/other.parquet")
    with pytest.raises(StoreError, match=r"was written as 'tables/table7.parquet'; move it"):
        store.read_table("tables/other.parquet", SPEED)


def test_all_that_is_written_says_its_place(table3_store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folds, "_NEW_FILES", 1)
    monkeypatch.setattr(folds, "SETTLED_SECONDS", -60)
    for number in range(folds.FEW):
        table3_store.write_trial(trial_row(f"more{number}"))
    write_of(table3_store, "a")
    table3_store.files.write_bytes(SPEED_FILE, speed_parquet([]))
    draw_report(table3_store, "table3", figures_of_stored("table3"))
    table3_store.files.write_bytes(FINDINGS_FILE, findings_parquet([], "findings", 0))
    table3_store.fold()
    root = tmp_path / "storage"
    files = sorted(root.rglob("*.parquet"))
    assert {file.parent.name for file in files} >= {*SCHEMAS, "tables", "folds"} - {"running"}
    for file in files:
        metadata = pq.read_metadata(file).metadata
        assert metadata[NAME_KEY].decode() == file.relative_to(root).as_posix()
        assert CHECKSUM_KEY.encode() in metadata


def test_a_fold_of_another_folder_is_as_good_as_none(store: ResultStore, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folds, "_NEW_FILES", 1)
    monkeypatch.setattr(folds, "SETTLED_SECONDS", -60)
    for number in range(folds.FEW + 1):
        store.write_trial(trial_row(f"t{number}"))
    store.fold()
    fold = tmp_path / "storage/folds/trials.parquet"
    assert folds.read_fold(store.files, "trials", TRIALS) is not None
    fold.with_name("dynamics.parquet").write_bytes(fold.read_bytes())
    assert folds.read_fold(store.files, "dynamics", TRIALS) is None
    fold.unlink()
    fold.mkdir()
    assert len(store.trials()) == folds.FEW + 1, "a fold that cannot be opened costs time and no more"


@pytest.mark.parametrize("root", REFERENCES, ids=lambda root: root.name)
def test_the_committed_stores_are_read_as_they_are(root: Path):
    store = ResultStore.open(root)
    for folder, schema in SCHEMAS.items():
        for name in store.files.names(folder, ".parquet"):
            table = store.read_table(f"{folder}/{name}.parquet", schema)
            assert table is not None
            assert len(table) or folder == "plans"


def test_what_other_readers_see_stays_the_same(store: ResultStore, tmp_path: Path):
    for name in ("a", "b"):
        store.write_trial(trial_row(name))
    assert pd.read_parquet(tmp_path / "storage/trials")["trial_id"].tolist() == ["a", "b"]
