"""How far many shards would drift apart: T_now and beta_now from a run's records, dealt out to any number of shards.

Only the spread that comes from each shard seeing other images is simulated. What is dealt out was measured while all
images followed one T_now and one beta_now: that E_k follows T_now, and that weights follow both, is left out.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

_DEALS = (8, 240)
_IMAGES = 500_000
"""As often are windows of a run dealt out as takes so many images, within `_DEALS`. Where that is more often than there
are windows, each is dealt out again; else each is from the middle of as long a part of the run, so that none counts
more than another."""
_SMALLEST_BETA = 1e-15
"""A smaller median is not taken over, as `SMALLEST_BETA` of `dynamic.state`, which would bring PyTorch along."""


@dataclass(frozen=True)
class Records:
    """What the images of a run measured.

    Attributes:
        ious: `[steps, images]`, I_k.
        errors: `[steps, images]`, E_k.
        valid: `[steps, images]`, bool; false where there was nothing to measure.
        initial_iou: the floor of T_now.
        initial_beta: the ceiling of beta_now.
    """

    ious: np.ndarray
    errors: np.ndarray
    valid: np.ndarray
    initial_iou: float
    initial_beta: float


def records_of(statistics: pd.DataFrame, initial_iou: float, initial_beta: float) -> Records:
    """The records of one trial.

    Args:
        statistics: rows as in `schemas.STATISTICS`, of one trial.
        initial_iou: the trial's.
        initial_beta: the trial's.
    """
    by_step = statistics.pivot(index="step", columns="image", values=["iou", "error"])
    ious, errors = (by_step[name].to_numpy(dtype=float) for name in ("iou", "error"))
    return Records(ious, errors, ~np.isnan(ious + errors), initial_iou, initial_beta)


def simulate_spread(
    records: Records, *, num_shards: int, images_per_shard: int, interval: int, seed: int = 0
) -> dict[str, float]:
    """The spread of T_now and beta_now over the shards, mean over the updates.

    A window of `interval` steps of the run is dealt out at random, so that each shard has its images of as many steps.
    Where that takes more images than the run recorded in the window, they are drawn from it with replacement.

    Args:
        records: what to deal out.
        num_shards: how many follow records.
        images_per_shard: of one step.
        interval: C.
        seed: of the draw.

    Returns:
        `T_now_range`, `T_now_std`, `beta_now_range` and `beta_now_std`: the largest minus the smallest value, and the
        standard deviation. A shard that measured nothing in a window is left out there. NaN if the run is shorter than
        a window.
    """
    names = [f"{statistic}_{spread}" for statistic in ("T_now", "beta_now") for spread in ("range", "std")]
    num_windows = len(records.ious) // interval
    if not num_windows:
        return dict.fromkeys(names, math.nan)
    rng = np.random.default_rng([seed, num_shards, images_per_shard, interval])
    deals = int(np.clip(_IMAGES // (num_shards * images_per_shard * interval), *_DEALS))
    chosen = min(num_windows, deals)
    starts = interval * ((np.arange(chosen) + 0.5) * num_windows / chosen).astype(int)
    spreads = []
    for start in np.repeat(starts, deals // chosen):
        window = slice(start, start + interval)
        dealt = _deal(records.ious[window].size, num_shards, images_per_shard * interval, rng)
        spreads.append([spread for values in _thresholds(records, window, dealt) for spread in _spread(values)])
    return dict(zip(names, np.mean(spreads, axis=0).tolist(), strict=True))


def _deal(recorded: int, num_shards: int, images: int, rng: np.random.Generator) -> np.ndarray:
    """Places in a window for each shard, `[num_shards, images]`: each once while there are enough."""
    needed = num_shards * images
    if needed <= recorded:
        return rng.permutation(recorded)[:needed].reshape(num_shards, images)
    return rng.integers(recorded, size=(num_shards, images))


def _thresholds(records: Records, window: slice, dealt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T_now and beta_now of each row of `[shards, images]` places in a window; NaN where nothing usable is."""
    ious, errors, valid = (values[window].ravel()[dealt] for values in (records.ious, records.errors, records.valid))
    count = valid.sum(axis=1)
    means = np.where(valid, ious, 0).sum(axis=1) / np.maximum(count, 1)
    last = np.maximum(count, 1) - 1
    middle = np.stack([last // 2, (last + 1) // 2], axis=1)
    ordered = np.partition(np.where(valid, errors, np.inf), np.unique(middle), axis=1)
    medians = np.take_along_axis(ordered, middle, axis=1).mean(axis=1)
    thresholds = np.where(count > 0, np.maximum(means, records.initial_iou), np.nan)
    usable = (count > 0) & (medians >= _SMALLEST_BETA)
    return thresholds, np.where(usable, np.minimum(medians, records.initial_beta), np.nan)


def _spread(values: np.ndarray) -> tuple[float, float]:
    """The largest minus the smallest of the known values, and their standard deviation; zero if none is known."""
    known = values[~np.isnan(values)]
    return (float(np.ptp(known)), float(known.std())) if known.size else (0.0, 0.0)
