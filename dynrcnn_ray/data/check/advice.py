"""What a split holds, in words, and which ranks K_I and K_beta suit that many objects."""

import dataclasses
import shlex

import numpy as np

from dynrcnn_ray.config.sections import SAMPLED_ROIS, DynamicConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.options.command import Call

_OBJECTS_OF_COCO = 7
"""Objects of an image of COCO's, for which K_I and K_beta were chosen."""
_NEARLY_THE_PAPERS = (0.7, 1.4)
_MOST = 0.5
"""A rank is too small where so large a share of the images holds as many objects."""


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


def advice(checked: CheckedSplit, config: TrialConfig) -> list[str]:
    """Lines on K_beta and K_I where most training images hold that many objects: see README, On your own data."""
    counts = checked.objects_per_image
    ranks = (
        ("K_beta", config.beta_top_k, "beta-top-k", "beta_now is kept as it was"),
        ("K_I", config.iou_top_k, "iou-top-k", "T_now follows the ground truths alone"),
    )
    shares = {symbol: _share_that_hold(rank, counts) for symbol, rank, _, _ in ranks}
    return [
        f"  {shares[symbol]:.0%} of the images with objects hold {symbol} = {rank} of them or more, so {consequence}: "
        f"raise --dynamic.{option}\n"
        for symbol, rank, option, consequence in ranks
        if shares[symbol] >= _MOST
    ]


def _share_that_hold(rank: int, counts: np.ndarray) -> float:
    """The share of the images with objects that hold so many or more."""
    return float((counts[counts > 0] >= rank).mean())


def starting_values(checked: CheckedSplit, config: TrialConfig, call: Call) -> list[str]:
    """Lines on K_I and K_beta to start from, in proportion to the objects of an image, and how to try others."""
    counts = checked.objects_per_image
    mean = float(counts[counts > 0].mean())
    paper = DynamicConfig()
    ratio = mean / _OBJECTS_OF_COCO
    if _NEARLY_THE_PAPERS[0] <= ratio <= _NEARLY_THE_PAPERS[1] or not config.dynamic.dla:
        return []
    iou_top_k = min(max(10, 10 * round(paper.iou_top_k * ratio / 10)), SAMPLED_ROIS)
    beta_top_k = min(max(2, round(paper.beta_top_k * ratio)), SAMPLED_ROIS)
    with_them = dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, beta_top_k=beta_top_k))
    share = _share_that_hold(with_them.beta_top_k, counts)
    still_kept = (
        f"  That K_beta is {with_them.beta_top_k} at this scale, and {share:.0%} of the images with objects hold as "
        "many:\n  beta_now would be kept as it was. Raise it further, or take --dynamic.no-count-ground-truths.\n"
    )
    around = {paper.iou_top_k, iou_top_k, max(10, iou_top_k // 2), min(2 * iou_top_k, SAMPLED_ROIS)}
    axis = " ".join(map(str, sorted(around)))
    own = [argument for argument in call.arguments if argument != "--masks"] if call.command == "check-data" else []
    own = own or ["--data.root", config.data.root]
    return [
        f"  K_I and K_beta to start from: --dynamic.iou-top-k {iou_top_k} --dynamic.beta-top-k {beta_top_k}. "
        "These are\n"
        f"  the paper's {paper.iou_top_k} and {paper.beta_top_k}, in proportion: {mean:.1f} objects an image here, "
        f"{_OBJECTS_OF_COCO} on COCO. Or the paper's with --dynamic.no-count-ground-truths.\n",
        still_kept if share >= _MOST else "",
        f"  To try others: dynrcnn grid --name my_k_i --axis dynamic.iou-top-k {axis} --baseline dynamic.dla=false "
        f"dynamic.dsl=false --dynamic.beta-top-k {beta_top_k} --seeds 0 1 2 {shlex.join(own)}\n",
    ]
