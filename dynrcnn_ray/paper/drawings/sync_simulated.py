"""The second figure of the experiment `sync`: up to 1,024 shards, simulated from what one run's images measured."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from dynrcnn_ray.paper.simulation import Records, simulate_spread
from dynrcnn_ray.report.figure_style import COLOURS, draw_heading, draw_note, figure_style
from dynrcnn_ray.statistics.estimates import mean_estimate

NUMBERS_OF_SHARDS = tuple(2**power for power in range(11))
IMAGES_PER_SHARD = {1: COLOURS[4], 2: COLOURS[1], 8: COLOURS[5]}
_INTERVALS = {0.2: 20, 1: 100, 5: 500}
"""The simulated C over the run's own, and the paper's number that it stands for where the run's own stands for 100."""
_STATISTICS = {
    "T_now": "$T_{now}$ over the shards (IoU)",
    "beta_now": "$β_{now}$ over the shards (normalised offset)",
}
_DEVIATION = (0, (2, 1.4))
_MEASURED = "measured, largest minus\nsmallest; 95 % interval"
_OTHER_IMAGES = "0.7"
"""Of a measured trial with another number of images a shard than is simulated."""
_CAPTION = (
    "Simulated: the I_k and E_k of every image of one run of one shard (convention paper, {images} images a step) are "
    "dealt out at random to shards, within windows of C steps of\nthat run; where more images are needed than a window "
    "recorded, they are drawn from it again and again. Held fixed: what was measured. That E_k follows T_now, and\n"
    "that the weights follow both, is left out: each shard's values are those of a run in which all images shared one "
    "T_now and one beta_now."
)


def draw_simulated_shards(
    plan: pd.DataFrame, records: Records, own_interval: int, seed: int, measured: pd.DataFrame | None = None
) -> Figure:
    """Draw how far T_now and beta_now spread over up to 1,024 shards, with and without the all-reduce.

    A column for each C, a row for each statistic. C is 20, 100 and 500 where the run's own is the paper's 100, and in
    proportion at another scale.

    Args:
        plan: rows as in `schemas.PLAN`, for the heading.
        records: what a run of one shard recorded.
        own_interval: C of that run.
        seed: of that run.
        measured: what real trials found: a row for each with `C`, `shards`, `apart_T_now` and `apart_beta_now`.
    """
    with figure_style():
        figure = Figure(figsize=(11.5, 7.2), layout="constrained")
        panels = figure.subplots(len(_STATISTICS), len(_INTERVALS), sharex=True, sharey="row", squeeze=False)
        for column, (factor, papers) in enumerate(_INTERVALS.items()):
            interval = max(1, round(factor * own_interval))
            is_papers = interval == papers
            panels[0, column].set_title(f"C = {interval}" + ("" if is_papers else f" (the paper's {papers}, scaled)"))
            for images, colour in IMAGES_PER_SHARD.items():
                spreads = pd.DataFrame(
                    simulate_spread(records, num_shards=number, images_per_shard=images, interval=interval)
                    for number in NUMBERS_OF_SHARDS
                )
                for axes, statistic in zip(panels[:, column], _STATISTICS, strict=True):
                    _draw_spread(axes, spreads, statistic, colour)
            for axes in panels[:, column]:
                if axes.lines:
                    # It lies on the panel's edge, and is not to be cut in half there.
                    axes.plot(NUMBERS_OF_SHARDS, [0] * len(NUMBERS_OF_SHARDS), color="black", clip_on=False)
            if measured is not None and len(measured):
                of_interval = measured.loc[(measured["C"] == interval) & (measured["shards"] > 1), :]
                for axes, statistic in zip(panels[:, column], _STATISTICS, strict=True):
                    _draw_measured(axes, of_interval, statistic, records.ious.shape[1])
        for axes, label in zip(panels[:, 0], _STATISTICS.values(), strict=True):
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
        for axes in panels[-1]:
            axes.set_xlabel("shards")
        for axes in panels.flat:
            _finish(axes)
        _draw_legend(figure)
        draw_heading(figure, plan, f"seed {seed}", "simulated up to 1,024 shards")
        figure.supxlabel(_CAPTION.format(images=records.ious.shape[1]), fontsize=8, x=0.01, ha="left")
    return figure


def _draw_spread(axes: Axes, spreads: pd.DataFrame, statistic: str, colour: str) -> None:
    for name, style in (("range", "solid"), ("std", _DEVIATION)):
        values = spreads[f"{statistic}_{name}"]
        if bool(values.notna().to_numpy().any()):
            axes.plot(NUMBERS_OF_SHARDS, values, color=colour, linestyle=style)


def _draw_measured(axes: Axes, measured: pd.DataFrame, statistic: str, images: int) -> None:
    """The mean over the seeds, with its interval where there are two or more, in the colour of as many images."""
    for shards in measured["shards"].drop_duplicates().tolist():
        values = measured.loc[measured["shards"] == shards, f"apart_{statistic}"]
        found = mean_estimate(values.dropna().tolist())
        low, high = found.interval()
        colour = IMAGES_PER_SHARD.get(images // shards, _OTHER_IMAGES)
        if not math.isnan(low):
            axes.plot([shards, shards], [low, high], color=colour, linewidth=1.4)
        axes.plot([shards], [found.mean], color=colour, marker="D", markersize=6, markeredgecolor="black")


def _finish(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([1, 4, 16, 64, 256, 1024]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if not axes.lines:
        draw_note(axes, "the run is shorter than C")


def _draw_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=colour, label=f"{images} image{'s' if images > 1 else ''} a shard")
        for images, colour in IMAGES_PER_SHARD.items()
    ]
    handles += [
        Line2D([], [], color="0.45", label="largest minus smallest"),
        Line2D([], [], color="0.45", linestyle=_DEVIATION, label="standard deviation"),
        Line2D([], [], color="black", label="with the all-reduce: both zero"),
        Line2D([], [], color=_OTHER_IMAGES, marker="D", markeredgecolor="black", label=_MEASURED),
    ]
    figure.legend(handles=handles, loc="outside right upper", handlelength=1.8)
