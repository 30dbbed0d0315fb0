"""A trained detector to start from: what fits is taken, classes by name, and a line says so."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models import get_model_weights
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, from_yaml
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.experiment.experiment import identified
from dynrcnn_ray.models.detector import Detector, build_model
from dynrcnn_ray.models.detector_weights import DetectorWeights, read_detector_weights, require_fit, take_weights
from dynrcnn_ray.models.weights import WeightsError, identify_detector_weights

PREDICTOR = "roi_heads.box_predictor"


def trial(**fields: Any) -> TrialConfig:
    base = base_config("smoke")
    return dataclasses.replace(base, model=dataclasses.replace(base.model, **fields))


def detector(config: TrialConfig, num_classes: int, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return build_model(config, num_classes, DynamicTrainingState(config, device=torch.device("cpu")))


def weights_of(model: Detector, names: list[str] | None) -> DetectorWeights:
    return DetectorWeights({name: value.clone() for name, value in model.state_dict().items()}, names, "elsewhere")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {name for name, value in one.items() if name in other and torch.equal(value, other[name])}


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "retinanet", "fcos"])
def test_the_same_classes_take_everything(name: str):
    config = trial(name=name)
    source, model = detector(config, 2, seed=1), detector(config, 2)
    line = take_weights(model, weights_of(source, ["cat", "dog"]), ["cat", "dog"])
    count = len(model.state_dict())
    assert equal(model.state_dict(), source.state_dict()) == model.state_dict().keys()
    assert line == f"starts from elsewhere: {count} of {count} tensors taken"


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "cascade_mask_rcnn", "retinanet", "fcos"])
def test_other_classes_start_anew_and_known_ones_keep_their_rows(name: str):
    config = trial(name=name)
    source, model = detector(config, 3, seed=1), detector(config, 4)
    initial, theirs = weights_of(model, None).state, source.state_dict()
    own_names = ["Dog", "emu", "cat", "ox"]
    line = take_weights(model, weights_of(source, ["cat", "cow", "dog"]), own_names)
    state = model.state_dict()
    classes = {name for name in state if state[name].shape != theirs[name].shape}
    assert equal(state, theirs) == state.keys() - classes
    for layer in classes:
        rows = len(state[layer]) // 5
        if "cls_logits" in layer:
            assert torch.equal(state[layer], initial[layer]), "not class by class: all new"
            continue
        own, old, new = (value.unflatten(0, (-1, rows)) for value in (state[layer], theirs[layer], initial[layer]))
        for at, found in {0: 0, 1: 3, 3: 1}.items():
            assert torch.equal(own[at], old[found]), layer
        for at in (2, 4):
            assert torch.equal(own[at], new[at]), layer
    if name in ("retinanet", "fcos"):
        assert "new: head.classification_head.cls_logits.weight" in line
    else:
        assert "classes taken by name: Dog, cat; new classes: emu, ox" in line


def test_unknown_class_names_are_taken_where_the_shapes_agree_and_reported():
    config = trial()
    source = detector(config, 2, seed=1)
    same = take_weights(detector(config, 2), weights_of(source, None), ["cat", "dog"])
    assert "the class layers too, as their class names are unknown" in same
    model = detector(config, 3)
    other = take_weights(model, weights_of(source, None), ["cat", "dog", "emu"])
    assert f"new: {PREDICTOR}.cls_score.weight, {PREDICTOR}.cls_score.bias, {PREDICTOR}.bbox_pred.weight" in other


def test_class_layers_of_unknown_names_are_told_where_other_parts_are_new():
    source, model = detector(trial(), 2, seed=1), detector(trial(name="mask_rcnn"), 2)

    line = take_weights(model, weights_of(source, None), ["cat", "dog"])

    assert "new: roi_heads.mask_head" in line
    assert "the class layers too, as their class names are unknown" in line


@pytest.mark.parametrize(
    ("own_names", "rows"),
    [
        (["dog", "Dog"], {0: 0, 1: 2}),
        (["Dog", "dog"], {0: 0, 2: 2}),
        (["DOG", "Dog"], {0: 0}),
        (["DOG", "cat"], {0: 0, 1: 2, 2: 1}),
    ],
)
def test_classes_that_differ_in_their_case_are_told_apart(own_names: list[str], rows: dict[int, int]):
    """A name in another case is the same class only where no other own class may be meant."""
    source, model = detector(trial(), 2, seed=1), detector(trial(), 2)
    before = model.state_dict()[f"{PREDICTOR}.cls_score.weight"].clone()

    take_weights(model, weights_of(source, ["cat", "dog"]), own_names)

    own, theirs = (each.state_dict()[f"{PREDICTOR}.cls_score.weight"] for each in (model, source))
    assert {at: found for at in range(3) for found in range(3) if torch.equal(own[at], theirs[found])} == rows
    assert all(torch.equal(own[at], before[at]) for at in range(3) if at not in rows)


def test_the_rest_is_left_and_reported():
    source, model = detector(trial(name="mask_rcnn"), 2, seed=1), detector(trial(), 2)
    line = take_weights(model, weights_of(source, ["cat", "dog"]), ["cat", "dog"])
    assert equal(model.state_dict(), source.state_dict()) == model.state_dict().keys()
    assert "not used: roi_heads.mask_head" in line
    assert line.endswith("more")


def test_a_deformable_backbone_starts_from_a_plain_one():
    """What a deformable convolution has beside a plain one begins at zero."""
    source, model = detector(trial(), 2, seed=1), detector(trial(deformable=True), 2)
    line = take_weights(model, weights_of(source, ["cat", "dog"]), ["cat", "dog"])
    left = model.state_dict().keys() - equal(model.state_dict(), source.state_dict())
    assert left
    assert all(".conv2.offset." in name for name in left)
    assert "new: " in line


def test_another_backbone_is_refused():
    source = weights_of(detector(trial(backbone="small"), 2), ["cat", "dog"])
    fewer = {name: value for name, value in source.state.items() if "layer3" not in name}
    with pytest.raises(WeightsError, match=r"elsewhere has another backbone .* choose its model.backbone"):
        take_weights(detector(trial(), 2), source._replace(state=fewer), ["cat", "dog"])


def test_files_that_hold_weights(tmp_path: Path):
    source = detector(trial(), 2, seed=1)
    contents = {
        "plain.pth": source.state_dict(),
        "checkpoint.pt": {"model": source.state_dict(), "training_id": "x"},
        "exported.pth": {"model": source.state_dict(), "class_names": ["dog", "cat"]},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
        config = trial(detector_weights=str(tmp_path / name)).model
        read = read_detector_weights(config, identify_detector_weights(config))
        assert equal(dict(read.state), source.state_dict()) == source.state_dict().keys()
        assert read.class_names == (["dog", "cat"] if name == "exported.pth" else None)
    with (tmp_path / "plain.pth").open("ab") as opened:
        opened.write(b" ")
    other = dataclasses.replace(config, detector_weights=str(tmp_path / "plain.pth"))
    with pytest.raises(WeightsError, match=r"fingerprint .* but the trial began with"):
        read_detector_weights(other, identify_detector_weights(config))
    with pytest.raises(WeightsError, match=r"but the trial began with 0{16}; bring the same file to every node"):
        read_detector_weights(config, "0" * 16)
    torch.save([1], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name, message in (("list.pth", "holds no state_dict"), ("text.pth", "is no file of weights")):
        with pytest.raises(WeightsError, match=message):
            read_detector_weights(trial(detector_weights=str(tmp_path / name)).model)
    with pytest.raises(WeightsError, match=r"'nowhere.pth' is no file; allowed: coco, a file's path, or the id"):
        identify_detector_weights(trial(detector_weights="nowhere.pth").model)


def test_the_weights_count_in_the_id_and_those_of_the_backbone_do_not(tmp_path: Path):
    def ident(content: int, name: str, **fields: Any) -> str:
        torch.save({"w": torch.tensor(content)}, tmp_path / name)
        config = trial(detector_weights=str(tmp_path / name), **fields)
        return identified(config).trial_id

    one = ident(1, "a.pth")
    assert one != Trial(trial()).trial_id
    (tmp_path / "elsewhere").mkdir()
    assert ident(2, "a.pth") != one
    (tmp_path / "a.pth").rename(tmp_path / "elsewhere" / "a.pth")
    moved = trial(detector_weights=str(tmp_path / "elsewhere" / "a.pth"))
    kept = trial(detector_weights=str(tmp_path / "elsewhere" / "a.pth"), weights="shapes")
    ids = {identified(each).trial_id for each in (moved, kept)}
    assert ids == {ident(2, "a.pth")}
    named = {
        Trial(trial(detector_weights=name)).trial_id for name in ("0123456789ab", "0123456789ab:best", "0123456789ac")
    }
    assert len(named) == 3


def test_torchvisions_detector_on_coco(monkeypatch: pytest.MonkeyPatch):
    """Its 91 outputs have holes; COCO's 80 classes are found among them by name."""
    torch.manual_seed(1)
    source = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    enum = type(get_model_weights("fasterrcnn_resnet50_fpn")["COCO_V1"])
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: source)
    config = from_yaml("{model: {detector_weights: coco}, dynamic: {dla: true}}")
    weights = read_detector_weights(config.model)
    assert weights.class_names is not None
    names = [name for name in weights.class_names if name != "N/A"]
    assert len(names) == 80
    model = detector(config, 80)
    line = take_weights(model, weights, names)
    state = model.state_dict()
    assert "new:" not in line
    assert torch.equal(state[f"{PREDICTOR}.cls_score.weight"][80], source[f"{PREDICTOR}.cls_score.weight"][90])
    assert torch.equal(state["backbone.body.conv1.weight"], source["backbone.body.conv1.weight"])


def with_former_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torchvision's files of 2019 have them."""
    renamed = {}
    for name, value in state.items():
        if found := re.fullmatch(r"(head\.\w+\.conv)\.(\d)\.0\.(\w+)", name):
            name = f"{found[1]}.{2 * int(found[2])}.{found[3]}"
        elif found := re.fullmatch(r"(roi_heads\.mask_head)\.(\d)\.0\.(\w+)", name):
            name = f"{found[1]}.mask_fcn{int(found[2]) + 1}.{found[3]}"
        name = re.sub(r"(backbone\.fpn\.\w+_blocks\.\d)\.0\.(\w+)", r"\1.\2", name)
        renamed[re.sub(r"(rpn\.head\.conv)\.0\.0\.(\w+)", r"\1.\2", name)] = value
    return renamed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn", "maskrcnn", "retinanet"])
def test_files_of_earlier_torchvision_are_taken_as_torchvision_takes_them(name: str):
    """Its own files of COCO's weights have the names of 2019; it renames them as it loads them."""
    build = getattr(torchvision.models.detection, f"{name}_resnet50_fpn")
    source = build(weights=None, weights_backbone=None, num_classes=4).state_dict()
    old = with_former_names(source)
    assert old.keys() != source.keys()
    build(weights=None, weights_backbone=None, num_classes=4).load_state_dict(old)
    own = {"fasterrcnn": "faster_rcnn", "maskrcnn": "mask_rcnn"}.get(name, name)
    fields = {"backbone": "resnet50", "norm": "frozen_batch_norm", "fpn_channels": 256, "head_channels": 1024}
    config = trial(name=own, **fields)
    # RetinaNet has a sigmoid for each class and none for the background.
    model = detector(config, 4 if name == "retinanet" else 3)
    line = take_weights(model, DetectorWeights(old, ["a", "b", "c"], "torchvision"), ["a", "b", "c"])
    left = model.state_dict().keys() - equal(model.state_dict(), source)
    # Ours has an anchor of one size a level, RetinaNet's three.
    assert all(".cls_logits." in each or "bbox_reg" in each for each in left), line
    assert name == "retinanet" or (not left and "WARNING" not in line)


def test_a_part_that_would_begin_untrained_is_refused_and_named():
    source = detector(trial(), 2, seed=1)
    weights = weights_of(source, ["cat", "dog"])
    require_fit(trial(), weights)
    require_fit(trial(name="mask_rcnn"), weights)
    widths = r"choose its widths, --model.fpn-channels 64 --model.head-channels 256, and its model.name"
    for fields, parts in (
        ({"fpn_channels": 32}, "FPN and the RPN and the box head"),
        ({"head_channels": 128}, "box head"),
    ):
        with pytest.raises(WeightsError, match=f"the {parts} of elsewhere would not be taken over .*{widths}"):
            require_fit(trial(**fields), weights)
    lacking = {name: value for name, value in weights.state.items() if not name.startswith("rpn")}
    with pytest.raises(WeightsError, match=r"the RPN of elsewhere .*such as rpn.head.conv.0.0.weight"):
        require_fit(trial(), weights._replace(state=lacking))
    model = detector(trial(), 2)
    line = take_weights(model, weights._replace(state=lacking), ["cat", "dog"])
    assert line.startswith("WARNING: the RPN begins untrained, as that of the weights does not fit; starts from")
    # One head for each of three stages: nothing else can be meant.
    cascade = trial(name="cascade_rcnn")
    require_fit(cascade, weights)
    line = take_weights(detector(cascade, 2), weights, ["cat", "dog"])
    assert line.startswith("WARNING: the box head begins untrained")


def test_torchvisions_detector_needs_its_backbone():
    with pytest.raises(
        ConfigError, match=r"model.detector_weights: 'coco' has resnet50 with frozen_batch_norm, not resn"
    ):
        from_yaml("model: {backbone: resnet101, detector_weights: coco}")
