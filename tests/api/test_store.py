"""The rows of a store as data frames, and nothing that writes."""

import os
from pathlib import Path

import pandas as pd
import pytest

import dynrcnn_ray as dr
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.store.results_store import ResultStore
from tests.prepared import prepared

REFERENCES = Path(__file__).resolve().parents[2] / "experiments"
MINI = REFERENCES / "reference_mini"


def test_the_frames_are_the_store_s_own(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    store, own, ids = dr.Store(folder), ResultStore.open(folder), [prepared(config).trial_id]
    assert list(store.trials()["trial_id"]) == ids
    for name in ("dynamics", "proposals", "detections", "statistics"):
        expected = getattr(own, name)(ids)
        pd.testing.assert_frame_equal(getattr(store, name)(), expected)
        pd.testing.assert_frame_equal(getattr(store, name)(ids), expected)
        assert getattr(store, name)(["of another"]).empty
    assert len(store.dynamics()) > 1


@pytest.mark.parametrize("name", ["trials", "dynamics", "evaluations", "proposals", "detections", "statistics"])
def test_one_id_is_no_list_of_letters(name: str):
    """A text is a list of letters to Python, and no trial has one of these for its id."""
    store = dr.Store(MINI)
    with pytest.raises(
        ValueError, match=r"trial_ids: '370fe5263e8f' is one id; give a list of ids: \['370fe5263e8f'\]"
    ):
        getattr(store, name)("370fe5263e8f")


def test_evaluations_are_those_of_checkpoints_and_of_the_end(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    store = dr.Store(folder)
    found = store.evaluations()
    course = store.dynamics().dropna(subset="AP")
    assert list(found["step"]) == sorted({*course["step"], config.total_steps})
    assert found["AP"].iloc[-1] == store.trials()["AP"].iloc[0]
    assert found["AP50"].notna().sum() == 1
    assert dr.Store(MINI).evaluations()["AP"].notna().all()
    assert store.evaluations(["of another"]).empty


def test_tables_and_plans_are_read_as_they_were_written():
    store = dr.Store(str(MINI))
    assert {"table3", "findings"} <= set(store.tables())
    for name in store.tables():
        pd.testing.assert_frame_equal(store.table(name), pd.read_parquet(MINI / "tables" / f"{name}.parquet"))
    plan = store.plan("table3")
    assert set(plan["trial_id"].dropna()) <= set(store.trials()["trial_id"])
    assert "table3" in store.experiments()


def test_to_read_writes_nothing(trained: tuple[Path, TrialConfig]):
    folder, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    store = dr.Store(folder)
    store.trials()
    store.evaluations()
    store.detections()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not os.access(folder / "none", os.F_OK)
    assert not [name for name in dir(store) if "write" in name or "drop" in name]


def test_what_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(ValueError, match="is not there"):
        dr.Store(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    store = dr.Store(tmp_path)
    assert store.trials().empty
    assert store.evaluations().empty
    for call in (store.table, store.plan):
        with pytest.raises(ValueError, match="there are: none"):
            call("table3")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table3.parquet").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"table3\.parquet cannot be read"):
        store.table("table3")
