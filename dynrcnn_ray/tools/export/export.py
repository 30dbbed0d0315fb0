"""A trained detector without this package: a file for torchvision alone, with the lines that load it, and ONNX."""

import dataclasses
import io
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.detector import build_torchvision_model
from dynrcnn_ray.models.detector_file import detector_file
from dynrcnn_ray.models.input_size import InputSizeTransform
from dynrcnn_ray.options.output import write_whole

_OPSET = 17
_TRACED_SIZE = (96, 128)
"""Height and width of the image with which the graph is traced; it takes any size."""
_OUTPUTS = ("boxes", "labels", "scores", "masks")
_DEFAULT_ANCHORS = (32, 64, 128, 256, 512)


class ExportError(DynrcnnError, ValueError):
    """A detector that a format cannot hold. Its text is one line."""

    would_repeat = True


class Precision(NamedTuple):
    """How far two models' detections are from each other, over some pictures.

    Attributes:
        runs: pictures that were looked at, each size of one counted.
        other_counts: runs with another number of detections.
        detections: how many PyTorch found in all of them.
        pixels: largest difference of a box's corner to that of its counterpart.
        score: largest difference of a score.
    """

    runs: int
    other_counts: int
    detections: int
    pixels: float
    score: float


def plain_detector(config: TrialConfig, state: dict[str, Tensor], num_classes: int) -> nn.Module:
    """Torchvision's Faster or Mask R-CNN with trained weights, for testing.

    Args:
        config: the trial.
        state: the trained state_dict.
        num_classes: classes, the background not counted.

    Raises:
        ExportError: the detector is none of torchvision's.
    """
    _require_plain(config.model)
    model = build_torchvision_model(_untrained(config), num_classes)
    model.load_state_dict(state)
    model.transform = InputSizeTransform(config.data)
    return model.eval()


def export_torchvision(
    config: TrialConfig, state: dict[str, Tensor], class_names: Sequence[str], category_ids: Sequence[int], file: Path
) -> Path:
    """Write the weights with class names and configuration, and a script that loads them into torchvision alone.

    Args:
        config: the trial.
        state: the trained state_dict.
        class_names: name of each class, in the order of the labels.
        category_ids: COCO category id of each class.
        file: where the weights go, a .pth file.

    Returns:
        The script.

    Raises:
        ExportError: torchvision has no such detector.
    """
    text = torchvision_script(config, len(class_names), file.name)
    write_whole(file, detector_file(config, state, class_names, category_ids))
    script = file.with_name(f"load_{file.stem}.py")
    write_whole(script, text.encode())
    return script


def torchvision_script(config: TrialConfig, num_classes: int, file_name: str) -> str:
    """The lines that build the detector by torchvision alone and load the weights.

    Raises:
        ExportError: torchvision has no such detector.
    """
    settings = config.model
    _require_torchvisions(settings)
    channels, hidden = settings.fpn_channels, settings.head_channels
    norm = "FrozenBatchNorm2d"
    if settings.norm == "group_norm":
        norm = "lambda channels: GroupNorm(min(32, channels // 4), channels)"
    kind = "MaskRCNN" if settings.has_masks else "FasterRCNN"
    widths = (64, 128, 256, 512) if settings.backbone in ("resnet18", "resnet34") else (256, 512, 1024, 2048)
    arguments = {
        "min_size": config.data.short_side,
        "max_size": config.data.long_side,
        "rpn_pre_nms_top_n_test": settings.rpn_pre_nms_test,
        "rpn_post_nms_top_n_test": settings.rpn_post_nms,
        "rpn_nms_thresh": settings.rpn_nms_iou,
        "box_score_thresh": settings.score_threshold,
        "box_nms_thresh": settings.nms_iou,
        "box_detections_per_img": settings.detections_per_image,
        "box_head": f"TwoMLPHead({channels} * 49, {hidden})",
        "box_predictor": f"FastRCNNPredictor({hidden}, {num_classes + 1})",
    }
    imports = [
        "import torch",
        "from torch.nn import GroupNorm",
        f"from torchvision.models import {settings.backbone}",
        f"from torchvision.models.detection import {kind}",
        "from torchvision.models.detection.anchor_utils import AnchorGenerator",
        "from torchvision.models.detection.backbone_utils import BackboneWithFPN",
        "from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead",
        "from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor",
        "from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign",
    ]
    if settings.anchor_sizes != _DEFAULT_ANCHORS:
        sizes = ", ".join(f"({size},)" for size in settings.anchor_sizes)
        arguments["rpn_anchor_generator"] = f"AnchorGenerator(({sizes}), ((0.5, 1.0, 2.0),) * 5)"
        levels, scale = '["0", "1", "2", "3"]', 7 * settings.anchor_sizes[0]
        arguments["box_roi_pool"] = f"MultiScaleRoIAlign({levels}, 7, 2, canonical_scale={scale})"
        if settings.has_masks:
            arguments["mask_roi_pool"] = f"MultiScaleRoIAlign({levels}, 14, 2, canonical_scale={scale})"
    if settings.has_masks:
        arguments["mask_head"] = f"MaskRCNNHeads({channels}, ({channels},) * 4, 1)"
        arguments["mask_predictor"] = f"MaskRCNNPredictor({channels}, {channels}, {num_classes + 1})"
    lines = [
        f"body = {settings.backbone}(weights=None, norm_layer={norm})",
        'layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}',
        f"backbone = BackboneWithFPN(body, layers, {list(widths)}, {channels})",
        f"model = {kind}(",
        "    backbone,",
        *(f"    {name}={value}," for name, value in arguments.items()),
        ")",
        f'trained = torch.load(__file__.rpartition("/")[0] + {json.dumps("/" + file_name)}, weights_only=True)',
        'model.load_state_dict(trained["model"])',
        "model.eval()",
        "# The model takes a list of RGB images in 0..1, each [3, height, width]. Label l is class_names[l - 1].",
        'class_names = trained["class_names"]',
    ]
    used = "\n".join(lines)
    return "\n".join([*filter(None, (_only_used(line, used) for line in imports)), "", *lines, ""])


def _only_used(line: str, text: str) -> str:
    """An import less the names that a text does not use; empty if it uses none."""
    start, _, names = line.rpartition("import ")
    kept = [name for name in names.split(", ") if name in text]
    return f"{start}import {', '.join(kept)}" if kept else ""


def _require_plain(settings: ModelConfig) -> None:
    """Refuse what neither format holds."""
    own = [
        (settings.name not in ("faster_rcnn", "mask_rcnn"), f"model.name {settings.name}"),
        (settings.deformable, "model.deformable"),
        (settings.module, "model.module"),
    ]
    if found := [what for is_own, what in own if is_own]:
        raise ExportError(
            f"a detector with {', '.join(found)} cannot be exported, only plain Faster and Mask R-CNN; "
            "`predict` uses any trial"
        )


def _require_torchvisions(settings: ModelConfig) -> None:
    _require_plain(settings)
    own = [
        (settings.backbone in ("tiny", "small"), f"model.backbone {settings.backbone}"),
        (settings.stride_in_1x1, "model.stride_in_1x1"),
    ]
    if found := [what for is_own, what in own if is_own]:
        raise ExportError(f"--format: torchvision has no detector with {', '.join(found)}; choose --format onnx")


def export_onnx(
    model: nn.Module, class_names: Sequence[str], category_ids: Sequence[int], file: Path, *, batch: int = 0
) -> None:
    """Write a detector as an ONNX graph that takes one image, or a batch, of any size.

    The input `image` is float32 `[3, height, width]`, RGB in 0..1. The outputs are `boxes` (xyxy pixels of the image),
    `labels` (from 1), `scores` and, of Mask R-CNN, `masks`. Of a batch the input is `images`, `[batch, 3, height,
    width]`, and the outputs are those of all images one after another, with `image_index` (from 0) before them. The
    class names are in the graph's metadata.

    Args:
        model: from `plain_detector`.
        class_names: name of each class, in the order of the labels.
        category_ids: COCO category id of each class.
        file: where to write.
        batch: images at once, which the graph is then for; 0: one image, without a batch's axis.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = import_extra("onnx", "onnx")
    generator = torch.Generator().manual_seed(0)
    if batch:
        wrapped, name = _Batch(model).eval(), "images"
        example = torch.rand(batch, 3, *_TRACED_SIZE, generator=generator)
        axes = {2: "height", 3: "width"}
    else:
        wrapped, name = _OneImage(model).eval(), "image"
        example = torch.rand(3, *_TRACED_SIZE, generator=generator)
        axes = {1: "height", 2: "width"}
    with warnings.catch_warnings(action="ignore"), torch.inference_mode():
        of_detections = (*(["image_index"] if batch else []), *_OUTPUTS)
        outputs = [output for output, _ in zip(of_detections, wrapped(example), strict=False)]
        stream = io.BytesIO()
        # PyTorch's newer exporter does not take a number of detections that depends on the image.
        torch.onnx.export(
            wrapped,
            (example,),
            stream,  # pyright: ignore[reportArgumentType]
            dynamo=False,
            opset_version=_OPSET,
            input_names=[name],
            output_names=outputs,
            dynamic_axes={name: axes} | {output: {0: "detections"} for output in outputs},
        )
    graph = onnx.load_from_string(stream.getvalue())
    for name, value in (("class_names", list(class_names)), ("category_ids", list(category_ids))):
        entry = graph.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value)
    write_whole(file, graph.SerializeToString())


def precision_of_onnx(
    file: Path, model: nn.Module, pictures: Iterable[NDArray[np.uint8]], *, batch: int = 0
) -> Precision:
    """Compare an ONNX file, run by onnxruntime, with the model it was made of, which gets one image at a time.

    Args:
        file: the graph.
        model: from `plain_detector`.
        pictures: RGB `[H, W, 3]` each, of any sizes. A batch is a picture and what it is when it is shifted sideways.
        batch: images at once that the graph is for; 0: one image, without a batch's axis.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    onnxruntime = import_extra("onnxruntime", "onnx")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    wrapped = _OneImage(model).eval()
    runs, others, detections, pixels, score = 0, 0, 0, 0.0, 0.0
    for picture in pictures:
        shifts = [picture.shape[1] * at // max(1, batch) for at in range(max(1, batch))]
        images = np.stack([np.roll(picture, shift, axis=1) for shift in shifts]).transpose(0, 3, 1, 2)
        images = np.divide(images, 255, dtype=np.float32)
        for image, found in zip(images, _run(session, images, batch), strict=True):
            with torch.inference_mode():
                expected = [output.numpy() for output in wrapped(torch.from_numpy(image))][:3]
            runs += 1
            detections += len(expected[2])
            others += len(found[2]) != len(expected[2])
            of_picture = _largest_differences(expected, found)
            pixels, score = max(pixels, of_picture[0]), max(score, of_picture[1])
    return Precision(runs, others, detections, pixels, score)


def _run(session: Any, images: NDArray[np.float32], batch: int) -> list[list[NDArray[Any]]]:
    """Boxes, labels and scores of each image, as a graph finds them."""
    if not batch:
        return [session.run(list(_OUTPUTS[:3]), {"image": images[0]})]
    image_index, *found = session.run(["image_index", *_OUTPUTS[:3]], {"images": images})
    return [[output[image_index == at] for output in found] for at in range(batch)]


def _largest_differences(expected: Sequence[Any], found: Sequence[Any]) -> tuple[float, float]:
    """Of boxes and scores, each detection beside the nearest one of its class: equal scores may change their order."""
    boxes, labels, scores = expected
    pixels, score = 0.0, 0.0
    for box, label, own in zip(boxes, labels, scores, strict=True):
        same = found[1] == label
        if not same.any():
            continue
        distances = np.abs(found[0][same] - box).max(axis=1) + np.abs(found[2][same] - own)
        nearest = distances.argmin()
        pixels = max(pixels, float(np.abs(found[0][same][nearest] - box).max()))
        score = max(score, float(abs(found[2][same][nearest] - own)))
    return pixels, score


class _OneImage(nn.Module):
    """A detector as a function from one image to its outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`boxes`, `labels`, `scores` and, where there are, `masks`."""
        output = self.model([image])[0]
        return tuple(output[name] for name in _OUTPUTS if name in output)


class _Batch(nn.Module):
    """A detector as a function from images of one size to the outputs of all of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """`image_index`, `boxes`, `labels`, `scores` and, where there are, `masks`."""
        found = self.model(list(images.unbind(0)))
        image_index = torch.cat([torch.full_like(of_image["labels"], at) for at, of_image in enumerate(found)])
        names = [name for name in _OUTPUTS if name in found[0]]
        return image_index, *(torch.cat([of_image[name] for of_image in found]) for name in names)


def _untrained(config: TrialConfig) -> TrialConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, weights="none", detector_weights=""))
