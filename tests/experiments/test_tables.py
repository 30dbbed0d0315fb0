"""The tables' rows: in the paper's order, with the paper's numbers, and trials shared between them."""

import re
from pathlib import Path

import pytest

from dynrcnn_ray.config import validate
from dynrcnn_ray.scales import SCALES, base_config
from experiments.experiment import Experiment
from experiments.main import EXPERIMENTS

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper" / "dynamic_rcnn_eccv2020.md"
BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_row_is_a_valid_trial_of_its_own(experiment: Experiment, scale):
    rows = experiment.rows(base_config(scale))
    assert len({validate(row.config).trial_id for row in rows}) == len(rows)
    assert len({tuple(row.labels.items()) for row in rows}) == len(rows)
    for row in rows:
        assert list(row.reported) == list(experiment.metrics)


@pytest.mark.parametrize("scale", SCALES)
def test_a_trial_of_several_tables_is_one_trial(scale):
    trials = {name: BY_NAME[name].trials(base_config(scale), seeds=(0,)) for name in BY_NAME}
    baseline, dsl, dla, _ = trials["table3"]
    assert {baseline, dla} <= trials["table4"].keys()
    assert {baseline, dsl} <= trials["table5"].keys()
    assert {baseline, dla} <= trials["table6"].keys()
    assert baseline in trials["table1"]
    assert len(set().union(*trials.values())) == 14


def test_the_baseline_row_trains_without_dynamic_parts():
    for experiment in EXPERIMENTS:
        assert experiment.baseline_row is not None
        baseline = experiment.rows(base_config("mini"))[experiment.baseline_row].config.dynamic
        assert not baseline.dla
        assert not baseline.dsl
        assert (baseline.fixed_iou, baseline.fixed_beta) == (0.5, 1.0)


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text is not here")
@pytest.mark.parametrize("name", ["table1", "table3", "table4", "table5", "table6"])
def test_the_papers_numbers_are_those_of_its_text(name: str):
    text = PAPER.read_text()
    start = text.index(f"**Table {name[-1]}.**")
    body = re.sub(r"</?b>|<sub>|</sub>", "", text[start:]).split("\n\n")[1]
    printed = [float(cell) for line in body.splitlines()[1:] for cell in line.split("\t")[-6:] if is_number(cell)]
    if name == "table3":
        printed = [
            float(cell) for line in body.splitlines()[1:] for cell in (line.split("\t")[3], *line.split("\t")[5:])
        ]
    ours = [number for row in BY_NAME[name].rows(base_config("coco")) for number in row.reported.values()]
    assert ours == printed


def is_number(cell: str) -> bool:
    return re.fullmatch(r"\d+\.\d", cell.strip()) is not None
