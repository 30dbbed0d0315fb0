"""The tables' rows: in the paper's order, with the paper's numbers, and trials shared between them."""

import re
from pathlib import Path

import pytest

from dynrcnn_ray.config.scales import SCALES, base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError, validate
from dynrcnn_ray.experiment.experiment import Experiment
from dynrcnn_ray.paper import table7
from dynrcnn_ray.paper.paper import BESIDE, EXPERIMENTS

TEXT = Path(__file__).resolve().parents[3] / "shared" / "paper" / "dynamic_rcnn_eccv2020.md"
TABLES = tuple(experiment for experiment in EXPERIMENTS if experiment.name.startswith("table"))
PAPERS_SCALES = [scale for scale in SCALES if not base_config(scale).model.detector_weights]
"""Those from which every row can start: a trained detector has one backbone and one kind of head."""
BY_NAME = {experiment.name: experiment for experiment in (*EXPERIMENTS, *BESIDE)}


def test_rows_that_a_trained_detector_cannot_begin_are_refused():
    assert PAPERS_SCALES == ["smoke", "mini", "coco"]
    photos = base_config("photos")
    for name in ("table2", "table8", "table9"):
        with pytest.raises(ConfigError, match=r"model.detector_weights: 'coco' has resnet50"):
            [validate(row.config or photos) for row in BY_NAME[name].rows(photos)]


@pytest.mark.parametrize("scale", PAPERS_SCALES)
@pytest.mark.parametrize("experiment", [*EXPERIMENTS, *BESIDE], ids=lambda experiment: experiment.name)
def test_every_row_is_a_valid_trial_of_its_own(experiment: Experiment, scale):
    rows = experiment.rows(base_config(scale))
    measured = [(Trial(validate(row.config)).trial_id, row.metric_prefix) for row in rows if row.config]
    assert len(set(measured)) == len(measured)
    assert len({tuple(row.labels.items()) for row in rows}) == len(rows)
    for row in rows:
        assert set(row.reported) <= set(experiment.metrics)
        assert row.baseline is None or rows[row.baseline].config


@pytest.mark.parametrize("scale", SCALES)
def test_a_trial_of_several_tables_is_one_trial(scale):
    trials = {name: BY_NAME[name].trials(Trial(base_config(scale)), seeds=(0,)) for name in BY_NAME}
    baseline, dsl, dla, _ = trials["table3"]
    assert {baseline, dla} <= trials["table4"].keys()
    assert {baseline, dsl} <= trials["table5"].keys()
    assert {baseline, dla} <= trials["table6"].keys()
    assert baseline in trials["table1"]
    of_ablations = [trials[name] for name in ("table1", "table3", "table4", "table5", "table6")]
    assert len(set().union(*of_ablations)) == 14
    assert len(trials["table2"].keys() & trials["table9"].keys()) == 2
    assert len(set().union(*(trials[experiment.name] for experiment in EXPERIMENTS))) == 33


def test_rows_that_only_test_again_share_their_training():
    trainings = {
        config.training_id for _, config in BY_NAME["table2"].trials(Trial(base_config("coco")), seeds=(0,)).values()
    }
    assert len(trainings) == 12
    of_table9 = BY_NAME["table9"].trials(Trial(base_config("coco")), seeds=(0,)).values()
    assert len({config.training_id for _, config in of_table9} - trainings) == 2


def test_the_paper_protocols_at_its_own_scale():
    *_, best = BY_NAME["table9"].rows(base_config("coco"))
    config = best.config
    assert config
    assert config.data.train_short_sides == (400, 600, 800, 1000, 1200)
    assert config.data.train_long_side == 1400
    assert config.test.multi_scale_short_sides == (800, 1000, 1200, 1400, 1600)
    assert config.test.multi_scale_long_side == 2000
    assert config.total_steps == 270_000
    assert (config.model.backbone, config.model.deformable, config.test.soft_nms) == ("resnet101", True, "linear")


def test_baselines_train_without_dynamic_parts():
    for experiment in EXPERIMENTS:
        rows = experiment.rows(base_config("mini"))
        for index in {row.baseline for row in rows} - {None}:
            assert index is not None
            config = rows[index].config
            assert config
            assert not config.dynamic.dla
            assert not config.dynamic.dsl
            assert (config.dynamic.fixed_iou, config.dynamic.fixed_beta) == (0.5, 1.0)


@pytest.mark.skipif(not TEXT.is_file(), reason="the paper's text is not here")
@pytest.mark.parametrize("name", [experiment.name for experiment in TABLES])
def test_the_papers_numbers_are_those_of_its_text(name: str):
    printed = [[number for number in line if number is not None] for line in numbers_of(name)]
    if name == "table3":
        # The column between AP and AP50 is the difference to the baseline, in words of its own.
        printed = [[line[0], *line[-5:]] for line in printed]
    reported = [list(row.reported.values()) for row in BY_NAME[name].rows(base_config("coco"))]
    assert reported == printed
    totals = {"table1": 3, "table2": 14, "table3": 4, "table4": 4, "table5": 6, "table6": 4, "table8": 8, "table9": 17}
    assert len(reported) == totals[name]


@pytest.mark.skipif(not TEXT.is_file(), reason="the paper's text is not here")
def test_the_papers_speeds_are_those_of_its_text():
    printed = re.findall(r"([\d.]+) FPS", table_text("table7"))
    ours = [speeds[backbone] for backbone in (0, 1) for speeds in table7.PAPER.values()]
    assert ours == [float(number) for number in printed]


@pytest.mark.skipif(not TEXT.is_file(), reason="the paper's text is not here")
def test_the_split_is_the_papers():
    for experiment in TABLES:
        start = TEXT.read_text().index(f"**Table {experiment.name[-1]}.**")
        caption = TEXT.read_text()[start:].split("\n\n")[0]
        assert experiment.paper_split in re.sub(r"[*`]", "", caption)


def table_text(name: str) -> str:
    text = TEXT.read_text()
    body = text[text.index(f"**Table {name[-1]}.**") :].split("\n\n")[1]
    return re.sub(r"</?b>|<sub>|</sub>|</?i>", "", body)


def numbers_of(name: str) -> list[list[float | None]]:
    """The numbers of each line of a table; None for a dash."""
    lines = []
    for line in table_text(name).splitlines()[1:]:
        cells = [cell.strip() for cell in line.split("\t")]
        numbers = [float(cell) if is_number(cell) else None for cell in cells if is_number(cell) or cell == "-"]
        if numbers:
            lines.append(numbers[-6:] if name != "table3" else numbers)
    return lines


def is_number(cell: str) -> bool:
    return re.fullmatch(r"\d+\.\d", cell.strip()) is not None
