"""What a dry run says of seeds, for every experiment of the paper on a store that holds all of them."""

from pathlib import Path

import pytest

from dynrcnn_ray.execution.seeds import print_seeds, print_seeds_of_all
from dynrcnn_ray.experiment.experiment import Experiment
from dynrcnn_ray.paper.paper import EXPERIMENTS
from dynrcnn_ray.store.results_store import ResultStore

MEASURED = Path(__file__).resolve().parents[2] / "experiments" / "reference_mini"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_stored_table_can_be_asked(experiment: Experiment, capsys: pytest.CaptureFixture[str]):
    print_seeds(ResultStore.open(MEASURED), experiment)
    told = capsys.readouterr().out
    assert ("How many seeds" in told) == (experiment.name in {"table1", "table3", "table4", "table5", "table6"})


def test_all_at_once(capsys: pytest.CaptureFixture[str]):
    print_seeds_of_all(ResultStore.open(MEASURED), EXPERIMENTS)
    assert "table3 " in capsys.readouterr().out
