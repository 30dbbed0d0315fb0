"""The ids of what people have in their stores: of every stored reference trial, and of the paper's experiments."""

import hashlib
import json
from pathlib import Path

import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.paper.paper import EXPERIMENTS
from dynrcnn_ray.store.results_store import ResultStore

REFERENCES = Path(__file__).parents[2] / "experiments"
OF_STORES = {
    "reference_bccd": "b23c874de4a6",
    "reference_bccd_proposals_alone": "592411bb54c2",
    "reference_mini": "d514d5950677",
    "reference_nuclei": "0c2e1a8aee1b",
    "reference_ranks": "07889d13f5f2",
    "reference_successors": "d590c6fba7ce",
    "reference_sync": "54e0c32304e2",
    "reference_voc": "dbb2f2cd8105",
    "reference_voc_cpu": "b79ca194e182",
}
OF_EXPERIMENTS = {
    "smoke": "9bc326fb641a",
    "mini": "b55f1ad271f0",
    "coco": "254ef68dbf21",
}


def digest(ids: list[list[str]]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:12]


def test_no_reference_store_is_left_out():
    assert {folder.parent.name for folder in REFERENCES.glob("reference_*/trials")} == OF_STORES.keys()


@pytest.mark.parametrize("name", OF_STORES)
def test_rows_of_every_release_are_the_same_trials_as_ever(name: str):
    store = ResultStore.open(REFERENCES / name)
    rows = sorted(store.trials().to_dict("records"), key=lambda row: row["trial_id"])
    # What told trials apart by their workers has no meaning any more.
    rows = [row for row in rows if "distinct_by_workers: true" not in row["config"]]
    trials = [store.trial_of(row) for row in rows]
    assert all(trial.inputs.data and trial.inputs.data_root for trial in trials)
    ids = [[row["trial_id"], trial.trial_id, trial.training_id] for row, trial in zip(rows, trials, strict=True)]
    assert digest(ids) == OF_STORES[name]


@pytest.mark.parametrize("scale", OF_EXPERIMENTS)
def test_the_papers_trials_are_the_same_as_ever(scale: str):
    base = Trial(base_config(scale))
    trials = [(each.name, *item) for each in EXPERIMENTS for item in each.trials(base, (0, 1)).items()]
    ids = [[name, trial_id, trial.training_id] for name, trial_id, (_, trial) in trials]
    assert digest(ids) == OF_EXPERIMENTS[scale]
