"""What a dry run says of seeds, for every experiment of the paper on a store that holds all of them."""

from pathlib import Path

import pytest

from dynrcnn_ray.command_line.seeds import print_seeds, print_seeds_of_all
from dynrcnn_ray.experiment import Experiment
from dynrcnn_ray.results.store import ResultStore
from experiments.paper import PAPER

MEASURED = Path(__file__).resolve().parents[2] / "experiments" / "reference_mini"


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda experiment: experiment.name)
def test_every_stored_table_can_be_asked(experiment: Experiment, capsys: pytest.CaptureFixture[str]):
    print_seeds(ResultStore.open(MEASURED), experiment)
    told = capsys.readouterr().out
    assert ("How many seeds" in told) == (experiment.name in {"table1", "table3", "table4", "table5", "table6"})


def test_all_at_once(capsys: pytest.CaptureFixture[str]):
    print_seeds_of_all(ResultStore.open(MEASURED), PAPER.experiments)
    assert "table3 " in capsys.readouterr().out
