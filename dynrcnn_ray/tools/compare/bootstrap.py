"""How sure the difference of two runs is: a paired bootstrap over the images of a split."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.evaluation.average_precision import average_precision
from dynrcnn_ray.evaluation.coco_ap import iou_rows
from dynrcnn_ray.evaluation.matching import Matches

# Keeps one category's detections times samples within tens of megabytes at COCO's size.
_SAMPLES_AT_ONCE = 50
_INTERVAL = (2.5, 97.5)


class Difference(NamedTuple):
    """One metric of two runs, in percent. NaN where there is nothing to measure."""

    metric: str
    first: float
    second: float
    difference: float
    """Second minus first."""
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    """Upper end."""

    @property
    def differs_from_zero(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def bootstrap_differences(
    first: Matches,
    second: Matches,
    metrics: Sequence[str],
    *,
    samples: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Difference]:
    """Compare two runs on the same split, with 95 % percentile intervals of the differences.

    Each sample draws as many images as the split has, with replacement, and the same ones for both runs. An image that
    is drawn twice counts its objects and its detections twice. A sample without any object counts for nothing.

    AP is no mean over images: the resampled differences need not centre on the measured one, least of all where many
    categories are rare. The percentiles are not corrected for that.

    Args:
        first: the matches of one run.
        second: those of the other, with the same annotations.
        metrics: names such as `AP` and `AP75`.
        samples: number of samples.
        seed: of the draws.
        on_progress: is told how many samples are done.

    Returns:
        One entry a metric.
    """
    num_images = first.num_images
    assert num_images == second.num_images, "a paired bootstrap needs the same images"
    generator = np.random.default_rng(seed)
    resampled: list[NDArray[np.float64]] = []
    for start, stop in itertools.pairwise([*range(0, samples, _SAMPLES_AT_ONCE), samples]):
        counts = generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=stop - start)
        weights = counts.astype(np.float64)
        resampled.append(_percents(second, metrics, weights) - _percents(first, metrics, weights))
        on_progress(stop)
    plain = np.stack([_percents(matches, metrics, None)[:, 0] for matches in (first, second)])
    return [
        Difference(metric, one, other, other - one, *_interval(differences))
        for metric, one, other, differences in zip(metrics, *plain.tolist(), np.hstack(resampled), strict=True)
    ]


def _percents(matches: Matches, metrics: Sequence[str], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """`[metrics, num_samples]`; NaN for a sample without objects."""
    precision = average_precision(matches, weights=weights)
    valid = ~np.isnan(precision)
    precision = np.where(valid, precision, 0)
    with np.errstate(invalid="ignore"):
        return np.stack(
            [100 * precision[rows].sum(axis=(0, 1)) / valid[rows].sum(axis=(0, 1)) for rows in map(iou_rows, metrics)]
        )


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    measured = differences[~np.isnan(differences)]
    if not len(measured):
        return np.nan, np.nan
    low, high = np.percentile(measured, _INTERVAL).tolist()
    return low, high
