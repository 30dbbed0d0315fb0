"""A fold changes how fast a store is read, never what is read."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynrcnn_ray.store import folds
from dynrcnn_ray.store.files import StoreError, StoreFiles
from dynrcnn_ray.store.results_store import ResultStore

MANY = folds.FEW + 10
IDS = [f"{number:03d}" for number in range(MANY)]


def steps(number: int) -> list[dict[str, Any]]:
    return [{"step": step, "T_now": number + step / 100, "loss": 1.0} for step in (60, 20, 40)]


@pytest.fixture
def fold_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One new file is worth a fold, even one of this moment."""
    monkeypatch.setattr(folds, "_NEW_FILES", 1)
    monkeypatch.setattr(folds, "SETTLED_SECONDS", -60)


@pytest.fixture
def many(store: ResultStore, make_trial: Callable[..., dict[str, Any]], fold_eagerly: None) -> ResultStore:
    """Trials with their dynamics, not folded yet."""
    for number, trial_id in enumerate(IDS):
        store.write_dynamics(trial_id, steps(number))
        store.write_trial(make_trial(trial_id, AP=float(number)))
    return store


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the single files that are read from now on."""
    paths: list[str] = []
    contents = StoreFiles.contents
    monkeypatch.setattr(StoreFiles, "contents", lambda files, wanted: contents(files, paths.extend(wanted) or wanted))
    return paths


def test_the_same_is_read_with_a_fold_as_without(many: ResultStore, opened: list[str]):
    some = IDS[::-1][: MANY - 2]
    readers: list[Callable[[], pd.DataFrame]] = [
        many.trials,
        many.trials_so_far,
        lambda: many.trials(some, ["trial_id", "AP"]),
        lambda: many.dynamics(IDS),
        lambda: many.dynamics(some, ["trial_id", "step", "T_now"]),
    ]
    before = [read() for read in readers]
    many.fold()
    opened.clear()
    for read, expected in zip(readers, before, strict=True):
        pd.testing.assert_frame_equal(read(), expected)
    assert many.finished_trials() == set(IDS)
    assert not opened


def test_a_few_trials_are_read_from_their_own_files(many: ResultStore, opened: list[str]):
    many.fold()
    opened.clear()
    assert many.trials(IDS[:2])["AP"].tolist() == [0.0, 1.0]
    assert opened == ["trials/000.parquet", "trials/001.parquet"]


def test_files_written_replaced_and_deleted_after_the_fold_count_as_they_are(
    many: ResultStore, make_trial: Callable[..., dict[str, Any]], tmp_path: Path, opened: list[str]
):
    many.write_trial(make_trial("020", status="failed", AP=None))
    many.fold()
    many.write_trial(make_trial("020", AP=77.0))
    many.write_trial(make_trial("0105", AP=88.0))
    many.write_dynamics("020", steps(500))
    (tmp_path / "storage/trials/030.parquet").unlink()

    opened.clear()
    trials = many.trials()
    assert sorted(opened) == ["trials/0105.parquet", "trials/020.parquet"]
    assert trials["trial_id"].tolist() == sorted({*IDS, "0105"} - {"030"})
    assert trials.set_index("trial_id")["AP"].loc[["019", "020", "0105"]].tolist() == [19.0, 77.0, 88.0]
    of_one = many.dynamics(IDS).groupby("trial_id").get_group("020")
    assert of_one["step"].tolist() == [60, 20, 40]
    assert of_one["T_now"].tolist() == [500.6, 500.2, 500.4]

    many.fold()
    opened.clear()
    pd.testing.assert_frame_equal(many.trials(), trials)
    assert not opened


def test_damage_of_a_folded_file_is_named_as_before(many: ResultStore, tmp_path: Path):
    many.fold()
    path = tmp_path / "storage/trials/007.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"trials/007.parquet is damaged.*repeat the command"):
        many.trials()


@pytest.mark.parametrize("spoil", [lambda content: content[:-9], lambda content: b"nothing", lambda content: b""])
def test_a_fold_that_cannot_be_read_is_as_good_as_none(many: ResultStore, tmp_path: Path, spoil):
    expected = many.trials()
    many.fold()
    path = tmp_path / "storage/folds/trials.parquet"
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    pd.testing.assert_frame_equal(many.trials(), expected)
    many.fold()
    assert path.read_bytes() == whole


def test_a_copied_store_is_read_right(many: ResultStore, tmp_path: Path, opened: list[str]):
    """Its files have other times: none of the fold's rows counts."""
    many.fold()
    shutil.copytree(tmp_path / "storage", tmp_path / "copy", copy_function=shutil.copyfile)
    opened.clear()
    pd.testing.assert_frame_equal(ResultStore.open(tmp_path / "copy").trials(), many.trials())
    assert len(opened) == MANY


def test_other_readers_see_every_trial_once(many: ResultStore, tmp_path: Path):
    many.fold()
    assert (tmp_path / "storage/folds/trials.parquet").is_file()
    assert sorted(pd.read_parquet(tmp_path / "storage/trials")["trial_id"]) == IDS


def test_a_file_of_this_moment_waits_for_the_next_fold(many: ResultStore, monkeypatch, tmp_path: Path, opened):
    """Written again at once, it could have the same size and time."""
    monkeypatch.setattr(folds, "SETTLED_SECONDS", 86_400)
    for trial_id in IDS[1:]:
        os.utime(tmp_path / f"storage/trials/{trial_id}.parquet", (1e9, 1e9))
    many.fold()
    opened.clear()
    assert many.trials()["trial_id"].tolist() == IDS
    assert opened == ["trials/000.parquet"]


def test_few_new_files_are_not_worth_a_fold(many: ResultStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(folds, "_NEW_FILES", MANY + 1)
    many.fold()
    assert not (tmp_path / "storage/folds").exists()


def test_what_is_drawn_from_a_fold_shows_one_moment(many: ResultStore, make_trial, monkeypatch: pytest.MonkeyPatch):
    """A trial may end and another begin while tables and figures are drawn; large folders are listed once."""
    many.write_running(make_trial("runs", status="running"))
    of_then = many.fold()
    before = of_then.trials_so_far()
    many.write_running(make_trial("begins later", status="running"))
    many.write_dynamics("ends later", steps(1))
    many.write_trial(make_trial("ends later"))
    listed: list[str] = []
    stamps = StoreFiles.stamps
    monkeypatch.setattr(StoreFiles, "stamps", lambda *of: listed.append(of[1]) or stamps(*of))
    pd.testing.assert_frame_equal(of_then.trials_so_far(), before)
    assert of_then.dynamics([*IDS, "ends later"])["trial_id"].nunique() == MANY
    assert len(of_then.trial_ids()) == MANY
    assert not listed


@pytest.mark.parametrize("of_one_moment", [False, True])
def test_a_trial_that_ends_while_it_is_read_is_there_once(
    many: ResultStore, make_trial, monkeypatch: pytest.MonkeyPatch, of_one_moment: bool
):
    """Between the listing of the running trials and the reading of their rows."""
    many.write_trial(make_trial("ends", status="failed", AP=None))
    many.write_running(make_trial("ends", status="running"))
    reader = many.fold() if of_one_moment else many
    contents = StoreFiles.contents

    def end_first(files: StoreFiles, wanted: list[str]) -> Any:
        if wanted == ["running/ends.parquet"]:
            many.write_trial(make_trial("ends", AP=12.0))
        return contents(files, wanted)

    monkeypatch.setattr(StoreFiles, "contents", end_first)
    trials = reader.trials_so_far()
    assert sorted(trials["trial_id"]) == sorted([*IDS, "ends"])
    [ended] = trials[trials["trial_id"] == "ends"].to_dict("records")
    assert (ended["status"], ended["AP"]) == ("finished", 12.0)


def test_a_file_that_goes_after_it_was_listed_counts_as_not_there(many: ResultStore, tmp_path: Path):
    of_then = many.fold()
    (tmp_path / "storage/trials/030.parquet").unlink()
    (tmp_path / "storage/folds/trials.parquet").unlink()
    assert of_then.trials()["trial_id"].tolist() == sorted({*IDS} - {"030"})


@pytest.mark.slow
def test_two_folds_at_once_and_a_writer_miss_and_double_nothing(many: ResultStore, make_trial, tmp_path: Path):
    failures: list[BaseException] = []
    more = [f"1{number:02d}" for number in range(40)]
    written: list[str] = []

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return run

    def write() -> None:
        for trial_id in more:
            many.write_trial(make_trial(trial_id))
            written.append(trial_id)

    def fold() -> None:
        while len(written) < len(more):
            many.fold()

    def read() -> None:
        while len(written) < len(more):
            there = set(IDS) | set(written)
            found = many.trials(columns=["trial_id"])["trial_id"].tolist()
            assert found == sorted(set(found)), "each once"
            assert there <= set(found), "none is missed"

    threads = [threading.Thread(target=guarded(work)) for work in (write, fold, fold, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert many.trials()["trial_id"].tolist() == sorted(IDS + more)
    assert not list((tmp_path / "storage/.partial").iterdir())
