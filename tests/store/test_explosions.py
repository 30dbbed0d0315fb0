"""A loss that grows by orders of magnitude is said, though it is finite."""

import math
from pathlib import Path

import pytest

from dynrcnn_ray.store.explosions import exploded_at, explosion_note, explosions
from dynrcnn_ray.store.results_store import ResultStore
from tests.stored_table import dynamics_rows


@pytest.mark.parametrize(
    ("losses", "at"),
    [
        ([2.1, 1.8, 0.9, 2.4], None),
        ([9.0, 40.0, 3.0, 2.0], None),
        ([0.001, 0.004, 2.0], None),
        ([2.1, 1.8, 190.0], 2),
        ([2e16, 3e16], 0),
        ([math.nan, 1.8, 2.0], None),
        ([1.8, math.nan, 1e9], 2),
        ([], None),
    ],
)
def test_where_a_loss_explodes(losses: list[float], at: int | None):
    assert exploded_at(losses) == at


def test_the_note_names_step_and_both_losses():
    note = explosion_note([20, 40, 60], [2.1, 1.8, 2e16])
    assert note.startswith("the loss is 2e+16 at step 60, from 1.8 before: the training has diverged")
    assert explosion_note([20], [2e16]).startswith("the loss is 2e+16 at step 20: ")


def test_a_store_tells_it_of_the_trials_that_exploded(tmp_path: Path):
    store = ResultStore.open(tmp_path)
    for name, factor in (("well", 1.0), ("wild", 1e9)):
        first, *rest = dynamics_rows(0, 0)
        store.write_dynamics(name, [first, *({**row, "loss": row["loss"] * factor} for row in rest)])
    assert list(explosions(store, ["well", "wild", "gone"])) == ["wild"]
