"""RetinaNet and FCOS: torchvision's detectors, with the pyramid and the settings of the trial."""

import dataclasses

import pytest
import torch
from torchvision.models.detection import FCOS, RetinaNet, fcos_resnet50_fpn, retinanet_resnet50_fpn

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, validate
from dynrcnn_ray.models.one_stage import build_one_stage


def one_stage(config: TrialConfig, name: str, **test: object) -> TrialConfig:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, name=name, weights="none"),
        dynamic=dataclasses.replace(config.dynamic, dla=False, dsl=False),
        test=dataclasses.replace(config.test, **test),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "torchvisions"), [("retinanet", retinanet_resnet50_fpn), ("fcos", fcos_resnet50_fpn)])
def test_weights_load_into_torchvisions_model(name: str, torchvisions):
    ours = build_one_stage(one_stage(base_config("coco"), name), 80)
    plain = torchvisions(weights=None, weights_backbone=None, num_classes=81)
    plain.load_state_dict(ours.state_dict(), strict=True)
    assert (ours.score_thresh, ours.nms_thresh, ours.detections_per_img) == (0.05, 0.5, 100)
    assert ours.anchor_generator.sizes == plain.anchor_generator.sizes


@pytest.mark.parametrize(("name", "kind"), [("retinanet", RetinaNet), ("fcos", FCOS)])
def test_the_losses_are_torchvisions_under_other_names(name: str, kind: type):
    model = build_one_stage(one_stage(base_config("smoke"), name), 3).train()
    images = [torch.rand(3, 64, 64)]
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 30.0]]), "labels": torch.tensor([2])}]
    ours = model(images, targets)
    model.compute_loss = kind.compute_loss.__get__(model)
    torchvisions = model(images, targets)
    assert list(ours.values()) == list(torchvisions.values())
    assert all(name.startswith("loss_") for name in ours)


@torch.no_grad()
def test_retinanets_head_lets_as_much_through_whatever_its_width():
    """Its four layers have no normalisation; those of 256 channels are torchvision's own."""
    spreads = {}
    for channels in (64, 256):
        config = one_stage(base_config("smoke"), "retinanet")
        torch.manual_seed(0)
        narrow = dataclasses.replace(config, model=dataclasses.replace(config.model, fpn_channels=channels))
        model = build_one_stage(narrow, 3)
        features = torch.randn(4, channels, 16, 16)
        spreads[channels] = float(model.head.classification_head.conv(features).std())
        logits = model.head.classification_head.cls_logits
        assert float(logits.weight.std()) == pytest.approx(0.01 * (256 / channels) ** 0.5, rel=0.05)
    assert spreads[64] == pytest.approx(spreads[256], rel=0.2)
    assert spreads[256] == pytest.approx(0.01, rel=0.5)


def test_what_a_one_stage_detector_cannot_do_is_refused():
    smoke = base_config("smoke")
    with pytest.raises(ConfigError, match=r"model.name: 'fcos' trains at fixed thresholds"):
        validate(dataclasses.replace(smoke, model=dataclasses.replace(smoke.model, name="fcos")))
    for refused in ({"multi_scale": True}, {"soft_nms": "linear"}):
        with pytest.raises(ConfigError, match=r"model.name: 'retinanet' is tested by its own NMS"):
            validate(one_stage(smoke, "retinanet", **refused))
