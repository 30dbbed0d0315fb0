"""A small Table 3 with made-up measurements: four settings, three seeds each."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dynrcnn_ray.store.results_store import ResultStore

METRICS = ["AP", "AP50", "AP90"]
SETTINGS = {
    0: ({"DLA": "", "DSL": ""}, {"AP": 37.0, "AP50": 58.0, "AP90": 9.7}),
    1: ({"DLA": "", "DSL": "✓"}, {"AP": 38.0, "AP50": 57.6, "AP90": 13.2}),
    2: ({"DLA": "✓", "DSL": ""}, {"AP": 38.2, "AP50": 57.5, "AP90": 12.6}),
    3: ({"DLA": "✓", "DSL": "✓"}, {"AP": 38.9, "AP50": 57.3, "AP90": 15.2}),
}
SEEDS = (0, 1, 2)


def trial_row(trial_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "trial_id": trial_id,
        "experiment": "table3",
        "setting": "baseline",
        "seed": 0,
        "scale": "mini",
        "status": "finished",
        "AP": 50.0,
        "AP50": 80.0,
        "AP90": 10.0,
        "steps": 600,
        "num_workers": 1,
        "config": "seed: 0\n",
        "packages": {"torch": "2.8.0", "ray": "2.50.0"},
        "finished_at": datetime(2025, 1, 1, tzinfo=UTC),
    } | changes


def plan_row(row: int, **changes: Any) -> dict[str, Any]:
    labels, reported = SETTINGS.get(row, ({}, {}))
    return {
        "title": "Effects of each component",
        "anchor": "Table 3",
        "row": row,
        "labels": labels,
        "seed": 0,
        "trial_id": f"row{row}seed0",
        "reported": reported,
        "metrics": METRICS,
        "baseline_row": 0,
        "scale": "mini",
        "command": "python experiments/main.py table3",
    } | changes


def table3_plan() -> list[dict[str, Any]]:
    return [plan_row(row, seed=seed, trial_id=f"row{row}seed{seed}") for row in SETTINGS for seed in SEEDS]


def dynamics_rows(row: int, seed: int) -> list[dict[str, Any]]:
    """Curves as a training of two workers draws them: T_now rises, beta_now falls, both in steps of 20."""
    rng = np.random.default_rng(10 * row + seed)
    dla, dsl = (SETTINGS[row][0][name] == "✓" for name in ("DLA", "DSL"))
    rows = []
    for step in range(20, 601, 20):
        progress = 1 - math.exp(-step / 150)
        t_now = 0.4 if step <= 20 else max(0.4, 0.42 + (0.26 + 0.02 * dla) * progress + rng.normal(0, 0.008))
        beta_now = 1.0 if step <= 20 else min(1.0, 0.95 - (0.7 + 0.05 * dsl) * progress + rng.normal(0, 0.015))
        threshold = t_now if dla else 0.5
        proposals = 55 * progress + rng.normal(0, 2)
        rows.append(
            {
                "step": step,
                "T_now": t_now,
                "beta_now": beta_now,
                "iou_threshold": threshold,
                "smooth_l1_beta": beta_now if dsl else 1.0,
                "loss": 2.5 - 1.5 * progress,
                "positives_iou50": proposals,
                "positives": min(32.0, proposals * (1.1 - threshold)),
                "shard_T_now": [t_now, t_now],
                "shard_beta_now": [beta_now, beta_now],
            }
        )
    return rows


@pytest.fixture
def make_trial() -> Callable[..., dict[str, Any]]:
    return trial_row


@pytest.fixture
def write_table(store: ResultStore) -> Callable[..., tuple[pd.DataFrame, pd.DataFrame]]:
    """Writes and reads back a plan and its trials.

    Each row is its plan's changed fields and what each seed measured: None has failed, {} is not there yet.
    """

    def write(*rows: tuple[Mapping[str, Any], Mapping[int, Mapping[str, float] | None]]):
        lines = []
        for row, (changes, seeds) in enumerate(rows):
            lines += [plan_row(row, seed=seed, **{"trial_id": f"row{row}seed{seed}", **changes}) for seed in seeds] or [
                plan_row(row, seed=None, trial_id=None, **changes)
            ]
            for seed, metrics in seeds.items():
                failed = {"status": "failed", **dict.fromkeys(METRICS)}
                if metrics is None or metrics:
                    store.write_trial(
                        trial_row(f"row{row}seed{seed}", seed=seed, **(failed if metrics is None else metrics))
                    )
        store.write_plan("made", lines)
        plan = store.plan("made")
        assert plan is not None
        return plan, store.trials()

    return write


@pytest.fixture
def store(tmp_path) -> ResultStore:
    return ResultStore.open(tmp_path / "storage")


@pytest.fixture
def table3_store(store: ResultStore) -> ResultStore:
    store.write_plan("table3", table3_plan())
    for row in SETTINGS:
        for seed in SEEDS:
            trial_id = f"row{row}seed{seed}"
            store.write_dynamics(trial_id, dynamics_rows(row, seed))
            store.write_trial(trial_row(trial_id, seed=seed, AP=50.0 + row + 0.3 * (seed - 1), AP90=9.0 + row))
    return store
