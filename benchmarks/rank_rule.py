"""How the ranks K_I and K_beta have to change with the sampled RoIs so that Algorithm 1 measures the same.

Trains the baseline on one data set with the RoIs an object that the paper has on COCO, then with a half, a quarter, an
eighth and a sixteenth of them, and of the proposals. In each it looks for the rank whose I_k has the mean, or whose E_k
has the median, that the paper's rank has in the first: over the second half of the training. Prints them as Markdown.

Command:  python -m benchmarks.rank_rule [--scale mini] [--data.root DIR ...]    # the options of `dynrcnn train`
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynrcnn_ray.config.sections import SAMPLED_ROIS, DynamicConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import with_values
from dynrcnn_ray.data.check.advice import OBJECTS_OF_COCO
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.dynamic.boxes import centre_errors
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.dynamic.statistics import ProposalStatistics
from dynrcnn_ray.execution.train_command import TrainOptions, start_from_trial_or_base
from dynrcnn_ray.experiment.experiment import identified
from dynrcnn_ray.options.parsing import parse_options
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.state import build_training_state

_SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
_PROPOSALS_OF_A_ROI = 1000 / 512
_PAPER = DynamicConfig()

Curve = NDArray[np.float64]
"""The mean I_k, or the median E_k, of each rank from 1 on."""


class _EveryRank(DynamicTrainingState):
    """Keeps the IoUs and errors of each image in order, and so what every rank would measure."""

    def __init__(self, config: TrialConfig, **named: Any) -> None:
        """Nothing is kept yet; the second half of the training will be."""
        super().__init__(config, **named)
        self.first_step = config.total_steps // 2
        self.ious: list[NDArray[np.float32]] = []
        self.errors: list[NDArray[np.float32]] = []

    def measure(self, images: Sequence[AssignedProposals], weights: tuple[float, ...]) -> ProposalStatistics:
        """As every state, and note the images."""
        for image in images if self.step >= self.first_step else ():
            if image.match is not None:
                ious = image.match.max_iou
                errors = centre_errors(image.proposals, image.matched_boxes, weights)[ious >= self.iou_threshold]
                self.ious.append(ious.sort(descending=True).values.numpy())
                self.errors.append(errors.sort().values.numpy())
        return super().measure(images, weights)


DYNAMIC_STATE = _EveryRank


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    default, rest = start_from_trial_or_base(TrainOptions)(arguments)
    config = parse_options(TrainOptions, rest, prog="rank_rule", default=default).config()
    torch.set_num_threads(config.run.threads_per_worker)
    config = with_values(config, {"dynamic.dla": False, "dynamic.dsl": False, "model.module": __file__})
    inputs = prepare_data(config.data).inputs
    dataset = CocoDataset(inputs.data_root, config.data.train_split)
    objects = _objects_an_image(dataset)
    ranks = (_PAPER.iou_top_k * objects / OBJECTS_OF_COCO, _PAPER.beta_top_k * objects / OBJECTS_OF_COCO)
    print(f"{objects:.2f} objects an image\n")
    print("| RoIs | RoIs an object | K_I | the same | its T_now | K_beta | the same | its beta_now |")
    print("|---|---|---|---|---|---|---|---|")
    wanted: list[float] = []
    for share in _SHARES:
        rois = round(share * SAMPLED_ROIS * objects / OBJECTS_OF_COCO)
        curves = _measured(identified(_with_rois(config, rois), inputs), dataset)
        wanted = wanted or [at_rank(curve, rank) for curve, rank in zip(curves, ranks, strict=True)]
        cells = [str(rois), f"{rois / objects:.1f}"]
        for curve, value, rank in zip(curves, wanted, ranks, strict=True):
            same = rank_of(curve, value)
            cells += [f"{same:.1f}", f"{same / rank:.2f} x", f"{at_rank(curve, rank):.3f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def _objects_an_image(dataset: CocoDataset) -> float:
    return float(np.mean([dataset.num_objects(index) for index in dataset.images_to_train_on(keep_empty=False)]))


def _with_rois(config: TrialConfig, rois: int) -> TrialConfig:
    proposals = round(rois * _PROPOSALS_OF_A_ROI)
    names = ("model.rpn_pre_nms_train", "model.rpn_pre_nms_test")
    fields = {"model.rois_per_image": rois, "model.rpn_post_nms": proposals}
    return with_values(config, fields | dict.fromkeys(names, 2 * proposals))


def _measured(trial: Trial, dataset: CocoDataset) -> tuple[Curve, Curve]:
    """The IoUs and the errors over the second half of a training."""
    state = build_training_state(trial, len(dataset.class_names), Worker())
    for _ in train(trial.config, state, dataset):
        pass
    # The class of `model.module` is another object than the one above.
    kept: dict[str, Any] = vars(state.dynamic)
    return _by_rank(kept["ious"], np.mean), _by_rank(kept["errors"], np.median)


def _by_rank(images: Sequence[NDArray[np.float32]], middle: Callable[..., Curve]) -> Curve:
    """Where an image has fewer, its last, as in Algorithm 1; images without any do not count."""
    most = max(map(len, images))
    filled = [np.pad(values, (0, most - len(values)), mode="edge") for values in images if len(values)]
    return middle(np.stack(filled).astype(np.float64), axis=0)


def at_rank(curve: Curve, rank: float) -> float:
    """A curve's value at a rank; between two whole ones in proportion."""
    return float(np.interp(rank, np.arange(1, len(curve) + 1), curve))


def rank_of(curve: Curve, value: float) -> float:
    """The rank at which a curve has a value."""
    sign = 1 if curve[-1] > curve[0] else -1
    return float(np.interp(sign * value, sign * curve, np.arange(1, len(curve) + 1)))


if __name__ == "__main__":
    main(sys.argv[1:])
