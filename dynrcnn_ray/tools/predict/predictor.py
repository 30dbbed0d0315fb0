"""A trained detector that is used: pixels in, detections out."""

import numpy as np
import torch
from numpy.typing import NDArray

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.evaluation.coco_ap import Detections
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.inference import detections_of, outputs_of
from dynrcnn_ray.training.state import load_trained


class Predictor:
    """A trial's detector with the weights of a checkpoint, tested as the trial says.

    Attributes:
        config: the trial's configuration.
        category_ids: COCO category id of each class, ascending.
    """

    def __init__(
        self, trial: Trial, checkpoint: dict, training_id: str, category_ids: list[int], device: torch.device
    ) -> None:
        """Load the weights.

        Args:
            trial: the trial.
            checkpoint: a training state.
            training_id: whose it must be.
            category_ids: id of each class, ascending.
            device: where to detect.

        Raises:
            CheckpointError: the checkpoint is another training's or another model's.
        """
        self.config = trial.config
        self.category_ids = category_ids
        self._device = device
        self._model = load_trained(trial, len(category_ids), Worker(device=device), checkpoint, training_id)
        self._model.eval()

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8], *, min_score: float) -> Detections:
        """Detect on one picture.

        Args:
            pixels: RGB `[H, W, 3]`.
            min_score: detections below are left out.
        """
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        (output,) = outputs_of(self.config, self._model, [image], self._device)
        kept = output["scores"] >= min_score
        return detections_of({name: value[kept] for name, value in output.items()}, self.category_ids, image_id=0)
