"""The figures of the experiment `sync` draw what the frames hold."""

import numpy as np
import pandas as pd
import pytest

from dynrcnn_ray.paper.drawings.sync_shards import draw_shards
from dynrcnn_ray.paper.drawings.sync_simulated import NUMBERS_OF_SHARDS, draw_simulated_shards
from dynrcnn_ray.paper.simulation import Records, simulate_spread
from dynrcnn_ray.report.figure_style import figure_bytes

SETTINGS = (("1", ""), ("2", "✓"), ("2", ""), ("4", "✓"), ("4", ""))


@pytest.fixture
def plan() -> pd.DataFrame:
    lines = [
        {
            "row": 5 * group + index,
            "baseline_row": 5 * group,
            "labels": {"Convention": "paper", "C": c, "Shards": shards, "All-reduce": cell},
            "seed": seed,
            "trial_id": f"{c}-{shards}-{bool(cell)}-{seed}",
        }
        for group, c in enumerate(("20", "4"))
        for index, (shards, cell) in enumerate(SETTINGS)
        for seed in (0, 1)
    ]
    return pd.DataFrame(lines).assign(title="T", scale="mini")


def dynamics(plan: pd.DataFrame) -> pd.DataFrame:
    """Shard r has T_now = 0.4 + r / 10 and beta_now = 1 - r / 10, without the all-reduce."""
    rows = []
    for line in plan.to_dict("records"):
        labels = line["labels"]
        ranks = np.arange(int(labels["Shards"])) * (labels["All-reduce"] == "")
        for step in (20, 40):
            rows.append(
                {
                    "trial_id": line["trial_id"],
                    "step": step,
                    "shard_T_now": 0.4 + ranks / 10,
                    "shard_beta_now": 1 - ranks / 10,
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_every_shard_is_a_line_in_the_panel_of_its_number(plan):
    figure = draw_shards(plan, dynamics(plan))
    assert figure

    panels = np.array(figure.axes).reshape(2, 4)
    assert [axes.get_title(loc="left") for axes in panels[0]] == ["2 shards", "4 shards"] * 2
    assert "paper, C = 4" in panels[1, 0].get_ylabel()
    for row in panels:
        for axes, number in zip(row, (2, 4, 2, 4), strict=True):
            # Its own values, those that all share, and the one shard.
            assert len(axes.lines) == 2 * number + 1
    last = [float(np.asarray(line.get_ydata())[-1]) for line in panels[1, 3].lines]
    assert last == pytest.approx([1, 0.9, 0.8, 0.7, 1, 1, 1, 1, 1])
    assert figure.get_suptitle() == "T, scale mini; seed 0"
    assert len(figure_bytes(figure, "png")) > 5000


@pytest.mark.slow
def test_trials_that_have_not_finished_leave_room(plan):
    of_many = dynamics(plan)
    figure = draw_shards(plan, of_many[of_many["trial_id"].str.startswith("20-2-False-1")])
    assert figure

    panels = np.array(figure.axes).reshape(2, 4)
    assert len(panels[0, 0].lines) == 2
    assert [text.get_text() for text in panels[1, 3].texts] == ["no finished trial yet"]
    assert figure.get_suptitle().endswith("seed 1")
    assert len(figure_bytes(figure, "png")) > 5000


@pytest.fixture
def records() -> Records:
    rng = np.random.default_rng(0)
    return Records(rng.uniform(0.4, 0.9, (30, 2)), rng.uniform(0.1, 0.9, (30, 2)), np.ones((30, 2), bool), 0.4, 1.0)


@pytest.mark.slow
def test_simulated_shards_are_drawn_for_each_c_and_number_of_images(plan, records):
    figure = draw_simulated_shards(plan, records, own_interval=5, seed=3)

    panels = np.array(figure.axes).reshape(2, 3)
    titles = [axes.get_title(loc="left") for axes in panels[0]]
    assert titles == [f"C = {own} (the paper's {papers}, scaled)" for own, papers in ((1, 20), (5, 100), (25, 500))]
    # For 1, 2 and 8 images a shard the range and the deviation, and zero with the all-reduce.
    assert all(len(axes.lines) == 7 for axes in panels.flat)
    line = panels[1, 1].lines[0]
    assert list(line.get_xdata()) == list(NUMBERS_OF_SHARDS) == [2**power for power in range(11)]
    asked = {"num_shards": 16, "images_per_shard": 1, "interval": 5}
    assert np.asarray(line.get_ydata())[4] == simulate_spread(records, **asked)["beta_now_range"] > 0
    assert all(not np.any(line.get_ydata()) for axes in panels.flat for line in axes.lines[6:])
    caption = figure.get_supxlabel()
    assert caption.startswith("Simulated: ")
    assert "Held fixed" in caption
    assert "seed 3" in figure.get_suptitle()


@pytest.mark.slow
def test_what_was_measured_stands_in_the_panel_of_its_c_with_its_interval(plan, records):
    measured = pd.DataFrame(
        {"C": [5, 5, 5, 1], "shards": [2, 2, 1, 4], "apart_T_now": [0.1, 0.3, 0.0, 0.5], "apart_beta_now": [0.2] * 4}
    )
    panels = np.array(draw_simulated_shards(plan, records, 5, 3, measured).axes).reshape(2, 3)

    [interval, mark] = panels[0, 1].lines[7:]
    assert [list(mark.get_xdata()), list(mark.get_ydata())] == [[2], [pytest.approx(0.2)]]
    low, high = interval.get_ydata()
    assert low < 0.1 < 0.3 < high
    one_seed = [[list(line.get_xdata()), list(line.get_ydata())] for line in panels[0, 0].lines[7:]]
    assert one_seed == [[[4], [0.5]]]
    assert len(panels[0, 2].lines) == 7


@pytest.mark.slow
def test_a_run_shorter_than_c_says_so(plan, records):
    figure = draw_simulated_shards(plan, records, own_interval=10, seed=0)

    long = np.array(figure.axes).reshape(2, 3)[:, 2]
    assert [[text.get_text() for text in axes.texts] for axes in long] == [["the run is shorter than C"]] * 2
    assert len(figure_bytes(figure, "png")) > 5000


def test_at_the_papers_c_nothing_is_scaled(plan):
    short = Records(np.full((4, 2), 0.5), np.full((4, 2), 0.5), np.ones((4, 2), bool), 0.4, 1.0)
    figure = draw_simulated_shards(plan, short, own_interval=100, seed=0)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["C = 20", "C = 100", "C = 500"]


def test_where_no_number_of_shards_divides_the_batch_there_is_no_figure(plan):
    one = plan[[dict(labels)["Shards"] == "1" for labels in plan["labels"]]]
    assert draw_shards(one, dynamics(plan)) is None
