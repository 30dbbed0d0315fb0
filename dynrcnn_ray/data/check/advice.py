"""What a split holds, in words, and which ranks K_I and K_beta suit that many objects."""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.config.sections import SAMPLED_ROIS, DynamicConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.check.object_sizes import shown_share

_PAPER = DynamicConfig()
OBJECTS_OF_COCO = 7.3
"""Objects of an image of COCO's, for which K_I and K_beta were chosen."""
_POWER_OF_ROIS = {"iou_top_k": 0.25, "beta_top_k": 0.0}
"""How a rank falls with the RoIs an object where they are fewer than COCO's: `python -m benchmarks.rank_rule`."""
_NEARLY_THE_PAPERS = (0.7, 1.4)
_MOST = 0.5
"""A rank is too small where so large a share of the images holds as many objects."""
_SMALLEST_KIND = 0.1
_APART = 4.0
_SPLIT_EXPLAINS = 0.85
"""Images are of two kinds where each has a tenth of them, the one has so many times the other's objects, and telling
them apart explains so much of the variance of the logarithm of the objects an image: of one broad kind, spread evenly,
it is three quarters."""


def summary(split: str, checked: CheckedSplit) -> str:
    """What the usable part of a split holds."""
    counts = checked.objects_per_image
    median, most_have, most = np.percentile(counts, [50, 90, 100]).round().astype(int).tolist()
    crowds = int(checked.crowds().sum())
    ids = [category["id"] for category in checked.categories]
    holes = " (their ids have holes, which is fine)" if max(ids) - min(ids) >= len(ids) else ""
    return (
        f"{split}: {len(counts)} images, {counts.sum()} objects, {crowds} crowds, {len(ids)} categories{holes}\n"
        f"  objects per image: median {median}, 90 % have at most {most_have}, the most {most}; "
        f"{(counts == 0).sum()} images have none"
    )


def rank_lines(counts: NDArray[np.int64], config: TrialConfig) -> tuple[list[str], dict[str, list[str]]]:
    """Lines on K_beta and K_I where they do not suit so many objects, and the flags of ranks that do.

    Args:
        counts: objects of each image.
        config: the trial.
    """
    held = counts[counts > 0]
    lines = [line] if (line := _two_kinds(held)) else []
    dynamic = config.dynamic
    if not dynamic.count_ground_truths:
        return lines, {}
    flags: dict[str, list[str]] = {}
    ranks = [
        ("K_beta", "beta_top_k", "beta_now never moves, as the errors of the appended ground truths are zero", 1),
        ("K_I", "iou_top_k", "T_now follows the appended ground truths alone", 10),
    ]
    for symbol, name, consequence, step in ranks:
        if not (dynamic.dsl if name == "beta_top_k" else dynamic.dla):
            continue
        option, given, paper = f"--dynamic.{name.replace('_', '-')}", getattr(dynamic, name), getattr(_PAPER, name)
        used, usable = _sampled(name, given, config), smallest_usable_rank(name, held, config)
        is_useless = share_that_hold(used, held) >= _MOST
        if is_useless:
            lines.append(
                f"  {shown_share(share_that_hold(used, held))} of the images with objects hold {symbol} = {used} of "
                f"them or more{_stated(used, given)}, so {consequence}\n"
            )
        if usable is None:
            if is_useless:
                lines.append(
                    f"    no {option} helps, as half of the images hold as many objects as RoIs are sampled: take "
                    "--dynamic.no-count-ground-truths\n"
                )
                flags = {"--dynamic.no-count-ground-truths": []}
                break
            continue
        if is_useless:
            lines.append(f"    the smallest that fewer than half of the images reach: {option} {usable}\n")
        of_coco = rank_as_on_coco(name, float(held.mean()), config.model.rois_per_image)
        is_near = _NEARLY_THE_PAPERS[0] <= of_coco / used <= _NEARLY_THE_PAPERS[1]
        if is_useless or (given == paper and not is_near):
            stated = step * round(of_coco * SAMPLED_ROIS / config.model.rois_per_image / step)
            proposed = min(max(stated, usable, step, 2), SAMPLED_ROIS)
            if proposed != given:
                flags[option] = [str(proposed)]
    if flags and "--dynamic.no-count-ground-truths" not in flags:
        lines.append(
            f"  ranks to start from: {_joined(flags)}\n"
            f"    they measure here, at {held.mean():.1f} objects an image and {config.model.rois_per_image} RoIs, "
            f"what the paper's {_PAPER.iou_top_k} and {_PAPER.beta_top_k} measure at COCO's {OBJECTS_OF_COCO} of "
            f"{SAMPLED_ROIS}; none that half of the images reach\n"
        )
    return lines, flags


def rank_as_on_coco(name: str, objects: float, rois: int) -> float:
    """The rank of one's own data that measures what the paper's rank measures on COCO.

    Both ranks go with the objects of an image, however many RoIs are sampled: so many proposals an object. Where fewer
    RoIs come to an object than on COCO, its proposals are fewer too, and K_I falls with the fourth root.

    Args:
        name: `iou_top_k` or `beta_top_k`.
        objects: of an image, on average.
        rois: that the model samples of an image.

    Returns:
        Of so many RoIs, not of 512; not rounded.
    """
    rois_an_object = (rois / objects) / (SAMPLED_ROIS / OBJECTS_OF_COCO)
    rank: float = getattr(_PAPER, name) * objects / OBJECTS_OF_COCO
    return rank * min(1.0, rois_an_object) ** _POWER_OF_ROIS[name]


def ranks_to_try(proposed: int, counts: NDArray[np.int64], config: TrialConfig) -> list[int]:
    """Values of K_I around one, the paper's among them; none that half of the images reach by their objects alone."""
    around = {_PAPER.iou_top_k, proposed, max(10, proposed // 2), min(2 * proposed, SAMPLED_ROIS)}
    held = counts[counts > 0]
    return [rank for rank in sorted(around) if share_that_hold(_sampled("iou_top_k", rank, config), held) < _MOST]


def smallest_usable_rank(name: str, held: NDArray[np.int64], config: TrialConfig) -> int | None:
    """The smallest value of a rank, as it is stated for 512 RoIs, that fewer than half of the images reach.

    Args:
        name: `iou_top_k` or `beta_top_k`.
        held: objects of each image that has any.
        config: the trial, which may sample fewer RoIs.

    Returns:
        None if there is none.
    """
    stated = range(1, SAMPLED_ROIS + 1)
    return next((rank for rank in stated if share_that_hold(_sampled(name, rank, config), held) < _MOST), None)


def share_that_hold(rank: int, held: NDArray[np.int64]) -> float:
    """The share of the images with objects that hold so many or more."""
    return float((held >= rank).mean())


def _sampled(name: str, rank: int, config: TrialConfig) -> int:
    """A rank for the RoIs that the model samples."""
    return getattr(dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, **{name: rank})), name)


def _stated(used: int, given: int) -> str:
    return f" (that is {given} of {SAMPLED_ROIS} RoIs)" if used != given else ""


def _joined(flags: dict[str, list[str]]) -> str:
    return " ".join(" ".join([flag, *values]) for flag, values in flags.items())


def _two_kinds(held: NDArray[np.int64]) -> str:
    """A line where images are of two kinds by how many objects they hold; empty where they are not."""
    logs = np.sort(np.log(held))
    spread, number = logs.var(), len(logs)
    first, last = math.ceil(_SMALLEST_KIND * number), math.floor((1 - _SMALLEST_KIND) * number)
    if not spread or first > last:
        return ""
    sums = np.cumsum(logs)
    below = np.arange(first, last + 1)
    # Of all places to cut the sorted counts, that at which the two means are furthest apart, by Otsu's measure.
    gap = (sums[-1] - sums[below - 1]) / (number - below) - sums[below - 1] / below
    between = below * (number - below) / number**2 * gap**2
    cut = int(below[between.argmax()])
    few, many = (round(float(np.median(np.exp(part)))) for part in (logs[:cut], logs[cut:]))
    if between.max() / spread < _SPLIT_EXPLAINS or many < _APART * few:
        return ""
    return (
        f"  note: images are of two kinds: {cut / number:.0%} hold about {few} objects, the others about {many} (the "
        f"median of all is {np.median(held):.0f}, the mean {held.mean():.0f})\n"
        "    K_I and K_beta are counted per image, and one value suits one kind: T_now becomes the mean over both, "
        "beta_now that of the more frequent kind\n"
    )
