"""A trained detector, from a store's trial or from a file of the command `export`, ready to detect."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from dynrcnn_ray.api.store import open_store
from dynrcnn_ray.config.errors import DynrcnnError, innermost_line, one_line
from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.uris import shown_uri
from dynrcnn_ray.data.orientation import deep_mode, upright_rgb
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.execution.trained_checkpoint import trained_checkpoint
from dynrcnn_ray.models.detector import Detector, build_model
from dynrcnn_ray.models.detector_file import read_detector_file
from dynrcnn_ray.models.own_parts import parts_of
from dynrcnn_ray.models.user_module import own_module
from dynrcnn_ray.models.weights import WeightsError
from dynrcnn_ray.store.trained import finished_trial
from dynrcnn_ray.training.inference import outputs_of


class LoadError(DynrcnnError, ValueError):
    """A detector that cannot be loaded, or a picture that it cannot take. Its text is one line."""

    would_repeat = True


class LoadedDetector:
    """A trained detector. Call it with a picture.

    >>> import dynrcnn_ray as dr
    >>> detector = dr.load("mine.pth")
    >>> found = detector("photo.jpg")
    >>> sorted(found)
    ['boxes', 'labels', 'names', 'scores']
    >>> len(found["names"]) == len(found["boxes"])
    True

    Attributes:
        model: the detector in evaluation mode, with torchvision's interface: a list of RGB images in 0..1.
        class_names: name of each class; label l is `class_names[l - 1]`.
        category_ids: COCO category id of each class.
        config: the trial's configuration; its `test` section says how it detects.
    """

    def __init__(
        self,
        model: Detector,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        config: TrialConfig,
        device: torch.device,
    ) -> None:
        """Take a model with its weights, and what its labels mean."""
        self.model: nn.Module = model.eval().to(device)
        self.class_names = tuple(class_names)
        self.category_ids = tuple(category_ids)
        self.config = config
        self._detector, self._device = model, device

    @torch.inference_mode()
    def __call__(self, image: str | os.PathLike[str] | Tensor) -> dict[str, Any]:
        """Detect on one picture, by the trial's testing protocol.

        Args:
            image: a picture's file; or RGB `[3, height, width]`, uint8, or floating in 0..1 and of eight bits.

        Returns:
            Of each detection, by falling score: `boxes` `[n, 4]` (xyxy pixels of the picture), `scores` `[n]`, `labels`
            `[n]` (from 1), `names`, a list; of Mask R-CNN `masks` `[n, 1, height, width]`, probabilities.

        Raises:
            LoadError: the picture cannot be read, or is no such tensor.
        """
        pixels = _pixels_of_tensor(image) if isinstance(image, Tensor) else _pixels_of_file(image)
        (found,) = outputs_of(self.config, self._detector, [pixels], self._device)
        return {**found, "names": [self.class_names[label - 1] for label in found["labels"].tolist()]}


def load(
    source: str | os.PathLike[str],
    trial: str = "",
    *,
    checkpoint: CheckpointName = "last",
    device: torch.device | str = "cpu",
) -> LoadedDetector:
    """A trained detector, ready to detect.

    >>> import dynrcnn_ray as dr
    >>> trial = dr.Store("my_store").trials()["trial_id"].iloc[0]
    >>> dr.load("my_store", trial).class_names
    ('circle', 'square', 'triangle', 'pentagon', 'hexagon', 'star')
    >>> dr.load("mine.pth").class_names
    ('cat', 'dog')

    Args:
        source: a store (a folder, or a URI such as `s3://bucket/folder`), with the id of one of its trials; or a file
            that `dynrcnn export --format torchvision` wrote.
        trial: the id.
        checkpoint: of a trial: `last`, `best`, or that of a step.
        device: where to detect.

    Raises:
        ValueError: there is no such trial, checkpoint or file, or it is damaged.
    """
    device = torch.device(device)
    is_step = isinstance(checkpoint, int) and not isinstance(checkpoint, bool) and checkpoint > 0
    if not is_step and checkpoint not in ("last", "best"):
        raise LoadError(f"checkpoint: {checkpoint!r} must be 'last', 'best', or a step, from 1")
    if trial:
        return _load_trial(os.fspath(source), trial, checkpoint, device)
    if "://" in os.fspath(source):
        raise LoadError(f"source: {shown_uri(os.fspath(source))!r} is a store; name one of its trials too")
    file = Path(source).expanduser()
    if file.is_dir():
        raise LoadError(f"source: {str(file)!r} is a folder; name one of its trials too: load({str(file)!r}, trial)")
    if not file.is_file():
        raise LoadError(f"source: {str(file)!r} is no file; give one that `export --format torchvision` wrote")
    return _load_file(file, device)


def _load_trial(source: str, trial_id: str, which: CheckpointName, device: torch.device) -> LoadedDetector:
    store = open_store(source)
    trial = store.trial_of(finished_trial(store, trial_id))
    checkpoint, names = trained_checkpoint(store, trial, which)
    config = trial.config
    parts = parts_of(own_module(config.model, trial.inputs.module), config.model)

    def build(config: TrialConfig) -> Detector:
        return parts.build_model(config, len(names), parts.dynamic_state(config))

    model = _with_weights(build, config, checkpoint["model"], f"{store.files.place}: trial {trial_id}")
    ids = sorted(names)
    return LoadedDetector(model, [names[category] for category in ids], ids, config, device)


def _load_file(file: Path, device: torch.device) -> LoadedDetector:
    try:
        read = read_detector_file(file)
    except WeightsError as error:
        raise LoadError(str(error)) from None
    ids = sorted(read.category_names)

    def build(config: TrialConfig) -> Detector:
        # It has none: refused is a process in which another detector's may have changed the package.
        own_module(config.model, "")
        return build_model(config, len(ids), DynamicTrainingState(config))

    model = _with_weights(build, read.config, read.state, repr(str(file)))
    return LoadedDetector(model, [read.category_names[category] for category in ids], ids, read.config, device)


def _with_weights(
    build: Callable[[TrialConfig], Detector], config: TrialConfig, state: dict[str, Tensor], what: str
) -> Detector:
    untrained = dataclasses.replace(config.model, weights="none", detector_weights="")
    # The initial weights are drawn for nothing: what the caller draws next stays as it was.
    with torch.random.fork_rng(devices=[]):
        model = build(dataclasses.replace(config, model=untrained))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise LoadError(f"{what}: its weights do not fit its configuration ({innermost_line(error, 200)})") from None
    return model


def _pixels_of_file(file: str | os.PathLike[str]) -> Tensor:
    try:
        with Image.open(file) as image:
            if mode := deep_mode(image):
                raise LoadError(f"image: {os.fspath(file)!r} is not of 8 bits a channel (mode {mode})")
            pixels = upright_rgb(image)
    except LoadError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        raise LoadError(f"image: {os.fspath(file)!r} cannot be read as a picture ({one_line(error, 200)})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _pixels_of_tensor(image: Tensor) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3:
        raise LoadError(f"image: a tensor of shape {list(image.shape)} must be RGB, [3, height, width]")
    if not image.numel():
        raise LoadError(f"image: a tensor of shape {list(image.shape)} has no pixels")
    if image.dtype == torch.uint8:
        return image
    if not image.dtype.is_floating_point or not 0 <= float(image.min()) <= float(image.max()) <= 1:
        raise LoadError(f"image: a tensor of {image.dtype} must be uint8, or floating with values of 0 to 1")
    return (image * 255).round().to(torch.uint8)
