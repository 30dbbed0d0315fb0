"""The figures draw what the frames hold."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

from dynrcnn_ray.dynamic.boxes import smooth_l1
from dynrcnn_ray.paper.drawings import figure4
from dynrcnn_ray.paper.drawings.figure1 import draw_figure1
from dynrcnn_ray.paper.drawings.figure2 import draw_figure2
from dynrcnn_ray.paper.drawings.figure3 import draw_figure3
from dynrcnn_ray.paper.drawings.figure5 import draw_figure5
from dynrcnn_ray.report.figure_style import figure_bytes
from dynrcnn_ray.report.trends import draw_trends
from dynrcnn_ray.store.schemas import DYNAMICS, PROPOSALS

BLUE, VERMILLION = "#0072b2", "#d55e00"


def plan_of(*trials: tuple[int, dict[str, str], int, str]) -> pd.DataFrame:
    names = ("row", "labels", "seed", "trial_id")
    return pd.DataFrame([dict(zip(names, trial, strict=True)) for trial in trials]).assign(title="T", scale="mini")


def dynamics_of(trial_id: str, **columns: list[float]) -> pd.DataFrame:
    steps = list(range(20, 20 + 20 * len(next(iter(columns.values()))), 20))
    return pd.DataFrame({"trial_id": trial_id, "step": steps, **columns}).reindex(columns=DYNAMICS.names)


def proposals_of(trial_id: str, step: int, ious: list[float], dx: list[float], **changes: object) -> pd.DataFrame:
    """Proposals of one 20-pixel object: each is the object's box, moved against dx."""
    offsets = np.array(dx)
    columns = {
        "trial_id": trial_id,
        "step": step,
        "iou_threshold": 0.5,
        "smooth_l1_beta": 1.0,
        "image": 0,
        "is_ground_truth": False,
        "max_iou": ious,
        "dx": offsets,
        "dy": -offsets,
        "dw": 0.0,
        "dh": 0.0,
        "x1": 10 - 20 * offsets,
        "y1": 10 + 20 * offsets,
        "x2": 30 - 20 * offsets,
        "y2": 30 + 20 * offsets,
    } | changes
    return pd.DataFrame(columns).reindex(columns=PROPOSALS.names)


def renders(figure: Figure) -> bool:
    """Layout and text are only worked out when a figure is saved."""
    return len(figure_bytes(figure, "png")) > 5000


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


BASELINE = plan_of((0, {"DLA": "", "DSL": ""}, 0, "a"), (0, {"DLA": "", "DSL": ""}, 1, "b"))


def test_figure1_draws_the_mean_and_the_range_over_seeds():
    one = dynamics_of("a", positives_iou50=[10.0, 20.0], positives_iou90=[1.0, 2.0], sigma_dw=[0.3, 0.2])
    two = dynamics_of("b", positives_iou50=[20.0, 40.0], positives_iou90=[3.0, 2.0], sigma_dw=[0.1, 0.2])
    both = pd.concat([one.assign(iou_at_rank=[0.4, 0.6]), two.assign(iou_at_rank=[0.6, 0.7])])

    figure = draw_figure1(BASELINE, both)

    counts, rank_iou, sigmas, rank_error = figure.axes
    assert [line.get_label() for line in counts.lines] == ["IoU ≥ 0.5", "IoU ≥ 0.9"]
    assert list(counts.lines[0].get_xdata()) == [20, 40]
    assert list(counts.lines[0].get_ydata()) == [15, 30]
    assert list(counts.lines[1].get_ydata()) == [2, 2]
    assert counts.collections[0].get_datalim(counts.transData).intervaly.tolist() == [10, 40]
    assert sigmas.lines[0].get_ydata() == pytest.approx([0.2, 0.2])
    assert rank_iou.lines[0].get_ydata() == pytest.approx([0.5, 0.65])
    assert not rank_error.lines
    assert texts(rank_error) == ["not recorded in these trials"]
    assert figure.get_suptitle() == "T, scale mini; seeds 0, 1"
    assert renders(figure)


def test_figure1_of_one_seed_has_no_band_and_skips_steps_without_a_value():
    figure = draw_figure1(BASELINE, dynamics_of("b", error_at_rank=[0.4, np.nan, 0.2]))

    error = figure.axes[3]
    assert list(error.lines[0].get_xdata()) == [20, 60]
    assert not error.collections
    assert figure.get_suptitle().endswith("seed 1")
    assert renders(figure)


def test_figure2_draws_the_positives_of_each_step_and_threshold_without_ground_truths():
    early = proposals_of("a", 60, [0.4, 0.5, 0.9, 1.0], [0.4, 0.3, -0.3, 0.0], is_ground_truth=[False] * 3 + [True])
    late = proposals_of("a", 600, [0.55, 0.55, 0.6, 0.7], [0.2, -0.2, 0.1, -0.1])

    figure = draw_figure2(BASELINE, pd.concat([late, early]))

    def points(axes) -> list[list[float]]:
        [dots] = [found for found in axes.collections if isinstance(found, PathCollection)]
        return sorted(np.asarray(dots.get_offsets()).tolist())

    panels = np.array(figure.axes).reshape(2, 3)
    assert points(panels[0, 0]) == [[-0.3, 0.3], [0.3, -0.3]]
    assert points(panels[0, 1]) == [[-0.2, 0.2], [-0.1, 0.1], [0.1, -0.1], [0.2, -0.2]]
    assert points(panels[0, 2]) == [[-0.1, 0.1], [0.1, -0.1]]
    assert points(panels[1, 2]) == [[0, 0], [0, 0]]
    titles = [axes.get_title(loc="left") for axes in panels[0]]
    assert [title.splitlines()[0] for title in titles] == [
        "step 60, IoU ≥ 0.5: 2 positives",
        "step 600, IoU ≥ 0.5: 4 positives",
        "step 600, IoU ≥ 0.6: 2 positives",
    ]
    assert titles[0].splitlines()[1] == r"$\sigma_x$ = 0.300,  $\sigma_y$ = 0.300"
    [ellipse] = [patch for patch in panels[0, 2].patches if isinstance(patch, Ellipse)]
    assert ellipse.get_width() == pytest.approx(4 * 0.1)
    # Equal axes: a smaller cloud looks smaller.
    assert len({axes.get_xlim() for axes in panels[0]} | {axes.get_ylim() for axes in panels[0]}) == 1
    assert renders(figure)


def test_figure2_says_where_no_proposal_reaches_the_threshold():
    figure = draw_figure2(BASELINE, proposals_of("a", 10, [0.5], [0.1]))

    low, high = figure.axes[:2]
    assert len(figure.axes) == 4
    assert low.get_title(loc="left").startswith("step 10, IoU ≥ 0.5: 1 positives")
    assert texts(high) == ["no proposal reaches this IoU"]
    assert renders(figure)


@pytest.fixture
def dynamic_run() -> pd.DataFrame:
    """Two steps of a run: T_now rises over the middle proposals, beta_now falls."""
    ious, dx = [0.35, 0.5, 0.55, 0.8], [0.3, 0.2, -0.15, 0.05]
    other = proposals_of("a", 600, [0.32], [0.2], image=1, x1=0.0, iou_threshold=0.6, smooth_l1_beta=0.25)
    truth = proposals_of("a", 600, [1.0], [0.0], is_ground_truth=True, iou_threshold=0.6, smooth_l1_beta=0.25)
    return pd.concat(
        [
            proposals_of("a", 600, ious, dx, iou_threshold=0.6, smooth_l1_beta=0.25),
            proposals_of("a", 60, ious[:2], dx[:2], iou_threshold=0.45, smooth_l1_beta=0.75),
            other,
            truth,
            proposals_of("b", 60, ious, dx),
        ]
    )


@pytest.mark.slow
def test_figure3_labels_the_same_proposals_by_each_steps_threshold(dynamic_run):
    figure = draw_figure3(BASELINE, dynamic_run)

    labels = figure.axes[2:4]
    for axes, positives in zip(labels, (3, 1), strict=True):
        boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        colours = [to_hex(box.get_edgecolor()) for box in boxes]
        assert colours == [VERMILLION] * (4 - positives) + [BLUE] * positives + ["#000000"]
        # The last box is the object: every proposal's offsets lead to it.
        assert boxes[-1].get_bbox().extents == pytest.approx([10, 10, 30, 30])
        assert [box.get_x() for box in boxes[:-1]] == pytest.approx([4, 6, 13, 9])
    assert "3 of 4 positive" in labels[0].get_title(loc="left")
    assert figure.get_suptitle().endswith("seed 0")
    assert renders(figure)


@pytest.mark.slow
def test_figure3_counts_each_steps_proposals_on_either_side_of_its_threshold(dynamic_run):
    first, last = draw_figure3(BASELINE, dynamic_run).axes[:2]

    for axes, negative, positive, threshold in ((first, 1, 1, 0.45), (last, 4, 1, 0.6)):
        bars = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_height()]
        counted = {
            colour: [bar for bar in bars if to_hex(bar.get_facecolor()) == colour] for colour in (BLUE, VERMILLION)
        }
        assert sum(bar.get_height() for bar in counted[VERMILLION]) == negative
        assert sum(bar.get_height() for bar in counted[BLUE]) == positive
        assert all(bar.get_x() >= threshold - 1e-6 for bar in counted[BLUE])
        assert all(bar.get_x() + bar.get_width() <= threshold + 1e-6 for bar in counted[VERMILLION])


def test_figure3_draws_the_loss_of_each_steps_beta_over_its_positives_errors(dynamic_run):
    axes = draw_figure3(BASELINE, dynamic_run).axes

    for loss, bars, beta in ((axes[4], axes[6], 0.75), (axes[5], axes[7], 0.25)):
        _, curve, quadratic, marker = loss.lines
        assert curve.get_ydata() == pytest.approx(figure4.smooth_l1(np.asarray(curve.get_xdata()), beta))
        assert max(quadratic.get_xdata()) == pytest.approx(beta)
        assert list(marker.get_xdata()) == pytest.approx([beta, beta])
        assert bars.get_ylim() == axes[6].get_ylim()
    # The one positive of the last step has dx 0.05, an error of 0.5 in normalised offsets; step 60's, 2, lies beyond.
    [bar] = [patch for patch in axes[7].patches if patch.get_height()]
    assert bar.get_height() == pytest.approx(100)
    assert bar.get_x() <= 0.5 <= bar.get_x() + bar.get_width() + 1e-6
    assert not [patch for patch in axes[6].patches if patch.get_height()]


def test_figure3_of_a_step_with_ground_truths_alone():
    truth = proposals_of("a", 10, [1.0], [0.0], is_ground_truth=True)

    figure = draw_figure3(BASELINE, truth)

    assert figure.axes[1].get_title(loc="left").endswith("0 of 0 positive")
    assert renders(figure)


@pytest.mark.parametrize("beta", [0.15, *figure4.BETAS])
def test_loss_and_gradient_are_those_of_training(beta):
    errors = torch.linspace(-3, 3, 301, dtype=torch.float64, requires_grad=True)
    loss = smooth_l1(errors.abs(), torch.tensor(beta, dtype=torch.float64))
    loss.sum().backward()
    drawn = errors.detach().numpy()

    assert figure4.smooth_l1(drawn, beta) == pytest.approx(loss.detach().numpy())
    assert errors.grad is not None
    # At exactly zero autograd's |x| has no slope; the loss has slope zero there too.
    assert figure4.smooth_l1_gradient(drawn, beta) == pytest.approx(errors.grad.numpy())


def test_figure4_draws_the_formula_for_each_beta():
    figure = figure4.draw_figure4()

    loss, gradient = figure.axes
    assert [line.get_label() for line in loss.lines] == [f"β = {beta}" for beta in (2.0, 1.0, 0.5)]
    at_one = [float(np.interp(1, np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))) for line in loss.lines]
    assert at_one == pytest.approx([0.25, 0.5, 0.75])
    slopes = [
        float(np.interp(0.25, np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))) for line in gradient.lines
    ]
    assert slopes == pytest.approx([0.125, 0.25, 0.5])
    assert renders(figure)


K_PLAN = plan_of(
    (0, {"K_I": "64", "K_β": ""}, 0, "i64"),
    (1, {"K_I": "75", "K_β": ""}, 0, "i75"),
    (2, {"K_I": "", "K_β": "10"}, 0, "b10"),
)


@pytest.mark.slow
def test_figure5_draws_the_threshold_by_k_i_and_beta_by_k_beta():
    runs = [
        dynamics_of("i64", T_now=[0.4, 0.6], beta_now=[1.0, 0.5]),
        dynamics_of("i75", T_now=[0.4, 0.5], beta_now=[1.0, 0.5]),
        dynamics_of("b10", T_now=[0.4, 0.5], beta_now=[1.0, 0.2]),
    ]

    figure = draw_figure5(K_PLAN, pd.concat(runs))

    threshold, beta = figure.axes
    assert [line.get_label() for line in threshold.lines] == ["$K_I$ = 64", "$K_I$ = 75"]
    assert [list(line.get_ydata()) for line in threshold.lines] == [[0.4, 0.6], [0.4, 0.5]]
    assert [line.get_label() for line in beta.lines] == ["$K_β$ = 10"]
    assert list(beta.lines[0].get_ydata()) == [1.0, 0.2]
    assert renders(figure)


def test_figure5_keeps_names_and_colours_while_trials_are_missing():
    figure = draw_figure5(K_PLAN, dynamics_of("i75", T_now=[0.4, 0.5]))

    threshold, beta = figure.axes
    assert [line.get_label() for line in threshold.lines] == ["$K_I$ = 75"]
    assert threshold.lines[0].get_color() == "#E69F00"
    assert texts(beta) == ["no finished trial yet"]
    assert renders(figure)


def test_trends_have_a_line_a_setting_and_dash_what_is_only_recorded(table3_store):
    plan = table3_store.plan("table3")
    dynamics = table3_store.dynamics(plan["trial_id"])

    figure = draw_trends(plan, dynamics)

    threshold, beta, positives = figure.axes
    # Baseline and DSL are without DLA: their T_now is dashed, and the 0.5 in force is a fifth line.
    assert [line.get_linestyle() for line in threshold.lines] == ["--", "--", "-", "-", "-"]
    assert [line.get_linestyle() for line in beta.lines] == ["--", "-", "--", "-", "-"]
    assert len(positives.lines) == 8
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["baseline", "DSL", "DLA", "DLA + DSL", "recorded only, not in force"]
    drawn = threshold.lines[3].get_ydata()
    expected = dynamics[dynamics["trial_id"].str.startswith("row3")].groupby("step")["T_now"].mean()
    assert list(drawn) == pytest.approx(expected.tolist())


@pytest.mark.slow
def test_trends_of_many_settings_with_long_names_are_told_apart_and_named_within_the_figure():
    names = [f"Dynamic R-CNN+{number}x+MST*, small ResNet-FPN-DCN" for number in range(15)]
    plan = plan_of(*((row, {"Method": name}, 0, str(row)) for row, name in enumerate(names)))
    runs = [dynamics_of(str(row), T_now=[0.4, 0.5], positives=[1.0, 2.0]) for row in range(len(names))]

    figure = draw_trends(plan, pd.concat(runs))

    assert renders(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:-1] == names
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert min(axes.get_window_extent().y0 for axes in figure.axes) > box.y1, "below the panels"
    assert len({(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}) == len(names)


@pytest.mark.slow
def test_the_same_figure_gives_the_same_svg(dynamic_run):
    for draw in (draw_figure2, draw_figure3):
        first, second = (figure_bytes(draw(BASELINE, dynamic_run), "svg") for _ in range(2))
        assert first == second
