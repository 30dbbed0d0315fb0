"""Weights as others save them: taken with a note, or refused in a line of ours before anything starts."""

import argparse
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.backbones import build_backbone, note_on_weights
from dynrcnn_ray.models.detector import build_model
from dynrcnn_ray.models.detector_weights import read_detector_weights, require_fit, take_weights
from dynrcnn_ray.models.state_dicts import without_wrapper
from dynrcnn_ray.models.weights import WeightsError

TRIAL = base_config("smoke")
TINY = TRIAL.model
OF_TORCH = ("Weights only load failed", "weights_only", "PytorchStreamReader", "Error(s) in loading", "unpickl")


def body(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return build_backbone(TINY).body


def detector(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(TRIAL, 2, DynamicTrainingState(TRIAL, device=torch.device("cpu")))


def prefixed(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in model.state_dict().items()}


WRAPPED: dict[tuple[str, str], Callable[[nn.Module], Any]] = {
    ("", "module."): lambda model: nn.DataParallel(model).state_dict(),
    ("", "_orig_mod."): lambda model: prefixed("_orig_mod.", model),
    ("", "_orig_mod.module."): lambda model: prefixed("module._orig_mod.", model),
    ("state_dict", "model.net."): lambda model: {"state_dict": prefixed("model.net.", model), "epoch": 3},
    ("model", ""): lambda model: {"model": prefixed("", model), "args": argparse.Namespace(lr=0.1), "model_ema": {}},
    ("model_state_dict", ""): lambda model: {
        "model_state_dict": prefixed("", model),
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
        "best": np.float64(3.5),
        "path": Path("/somewhere"),
    },
    ("model_ema", "module."): lambda model: {"model_ema": AveragedModel(model).state_dict()},
    ("net", ""): lambda model: {"net": prefixed("", model), "loss": 0.5},
}
EVERY_WRAPPER = pytest.mark.parametrize("wrapper", WRAPPED, ids=lambda wrapper: "-".join(wrapper))


def told(file: Path) -> str:
    return note_on_weights(dataclasses.replace(TINY, weights=str(file)))


def test_a_plain_file_needs_no_note(tmp_path: Path):
    torch.save(body().state_dict(), tmp_path / "w.pth")
    assert told(tmp_path / "w.pth") == ""


@EVERY_WRAPPER
def test_wrapped_weights_of_a_backbone_are_taken_with_a_note(wrapper: tuple[str, str], tmp_path: Path):
    file, (entry, prefix) = tmp_path / "w.pth", wrapper
    torch.save(WRAPPED[wrapper](body()), file)
    notes = [f"its entry {entry!r}"] * bool(entry) + [f"names without {prefix!r}"] * bool(prefix)
    assert told(file) == f"model.weights: '{file}': {'; '.join(notes)}"
    loaded = build_backbone(dataclasses.replace(TINY, weights=str(file))).body.state_dict()
    for name, value in body().state_dict().items():
        assert torch.equal(loaded[name], value), name


@EVERY_WRAPPER
def test_wrapped_weights_of_a_detector_are_taken_with_a_note(wrapper: tuple[str, str], tmp_path: Path):
    file, (entry, prefix) = tmp_path / "w.pth", wrapper
    torch.save(WRAPPED[wrapper](detector()), file)
    weights = read_detector_weights(dataclasses.replace(TINY, detector_weights=str(file)))
    require_fit(TRIAL, weights)
    model = detector(seed=2)
    line = take_weights(model, weights, [])
    count = len(model.state_dict())
    origin = f"file {file}" + f" (its entry {entry!r})" * bool(entry) + f", names without {prefix!r}" * bool(prefix)
    assert line.startswith(f"starts from {origin}: {count} of {count} tensors taken")
    for name, value in detector().state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_what_a_file_has_besides_is_reported(tmp_path: Path):
    torch.save({"head.weight": torch.zeros(3), **prefixed("", body())}, tmp_path / "w.pth")
    assert told(tmp_path / "w.pth").endswith("not used: head.weight")


def test_a_prefix_that_the_model_has_itself_stays():
    state = prefixed("module.", nn.Linear(2, 2))
    assert without_wrapper(state, {"module.weight", "module.bias"}) == (state, "")


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/dynrcnn_ray_evil_weights",)


def damaged(file: Path) -> None:
    torch.save(body().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-2000])


def flipped(file: Path) -> None:
    """`torch.load` takes the changed byte for a weight."""
    torch.save(body().state_dict(), file)
    content = bytearray(file.read_bytes())
    content[content.index(body().state_dict()["conv1.weight"].numpy().tobytes()) + 3] ^= 0x40
    file.write_bytes(content)
    torch.load(file, weights_only=True)


def of_another_net(file: Path) -> None:
    torch.save({"module." + name: value for name, value in nn.Linear(2, 2).state_dict().items()}, file)


def of_another_size(file: Path) -> None:
    torch.save({name: value[:1] for name, value in body().state_dict().items()}, file)


def of_a_detector(file: Path) -> None:
    torch.save(detector().state_dict() | {"rpn.head.weight": torch.zeros(2)}, file)


REFUSED: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "text": (lambda file: file.write_text("<html>"), "neither torch.save's nor an .npz", ""),
    "cut": (damaged, "is no file of weights: damaged or cut; bring it once more", ""),
    "flipped": (flipped, "is no file of weights: damaged or cut; bring it once more", ""),
    "code": (
        lambda file: torch.save({"model": prefixed("", body()), "x": Evil()}, file),
        "objects that are not read",
        "",
    ),
    "old": (
        lambda file: torch.save({"args": argparse.Namespace()}, file, _use_new_zipfile_serialization=False),
        "objects that are not read; save the model's state_dict() alone",
        "",
    ),
    "module": (
        lambda file: torch.save(nn.Linear(2, 2), file),
        "holds no state_dict; save one by torch.save(model.s",
        "",
    ),
    "two": (
        lambda file: torch.save({"student": prefixed("", body()), "teacher": prefixed("", body())}, file),
        "holds several state_dicts (student, teacher); save one of them alone",
        "",
    ),
    "another": (of_another_net, "tensors are missing (conv1.weight, ", "has another backbone ("),
    "shapes": (of_another_size, "have another shape (conv1.weight, ", "has another backbone ("),
    "detector": (of_a_detector, "it is a detector's: give it as --model.detector-weights", "taken"),
}


def refusal(read: Callable[[], Any]) -> str:
    with pytest.raises(WeightsError) as refused:
        read()
    text = str(refused.value)
    assert "\n" not in text
    assert not any(words in text for words in OF_TORCH), text
    return text


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_taken_is_refused_in_a_line_of_ours(kind: str, tmp_path: Path):
    file = tmp_path / "w.pth"
    make, of_backbone, of_detector = REFUSED[kind]
    make(file)
    as_backbone: ModelConfig = dataclasses.replace(TINY, weights=str(file))
    assert of_backbone in (line := refusal(lambda: note_on_weights(as_backbone)))
    assert line.startswith(f"model.weights: '{file}' ")
    if of_detector == "taken":
        return
    as_detector = dataclasses.replace(TINY, detector_weights=str(file))
    line = refusal(lambda: require_fit(TRIAL, read_detector_weights(as_detector)))
    assert (of_detector or of_backbone) in line
    assert line.startswith("model.detector_weights: ")
    assert not Path("/tmp/dynrcnn_ray_evil_weights").exists()


def test_an_error_says_where_a_backbone_given_as_a_detector_belongs(tmp_path: Path):
    torch.save(prefixed("module.", body()), tmp_path / "w.pth")
    config = dataclasses.replace(TINY, detector_weights=str(tmp_path / "w.pth"))
    line = refusal(lambda: require_fit(TRIAL, read_detector_weights(config)))
    assert "it is a backbone's: give it as --model.weights" in line
