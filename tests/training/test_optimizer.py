import dataclasses

import pytest
import torch
from torch import Tensor, nn

from dynrcnn_ray.config.sections import TrainConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.training.optimizer import build_optimizer, learning_rate, set_learning_rate


@pytest.fixture
def _unset_memory_is_nan():
    """Memory that nobody initialised is NaN, not what happened to be there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def coco(**train) -> TrialConfig:
    return TrialConfig(train=dataclasses.replace(TrainConfig(), **train))


def test_schedule_is_the_papers():
    config = coco()
    assert config.total_steps == 90_000
    assert learning_rate(config, 0) == pytest.approx(0.02 / 3)
    assert learning_rate(config, 250) == pytest.approx(0.02 * (1 / 3 + 2 / 3 / 2))
    for step, rate in [(500, 0.02), (59_999, 0.02), (60_000, 0.002), (79_999, 0.002), (80_000, 0.0002)]:
        assert learning_rate(config, step) == pytest.approx(rate)


def test_2x_falls_at_its_own_steps():
    config = coco(steps=180_000)
    rates = [learning_rate(config, step) for step in (119_999, 120_000, 159_999, 160_000)]
    assert rates == pytest.approx([0.02, 0.002, 0.002, 0.0002])


@pytest.mark.parametrize("batch", [2, 8, 32, 64])
def test_another_batch_sees_as_many_images_at_a_proportional_rate(batch: int):
    config = coco(global_batch=batch)
    assert config.total_steps * batch == 90_000 * 16
    ratio = batch / 16
    for step in (0, 100, 500, 60_000, 80_000):
        assert learning_rate(config, round(step / ratio)) == pytest.approx(
            learning_rate(coco(), step) * ratio, rel=1e-2
        )


def test_biases_learn_twice_as_fast_without_decay_and_frozen_weights_not_at_all():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, coco())
    set_learning_rate(optimizer, 0.01)
    weights, biases = optimizer.param_groups
    assert [len(weights["params"]), len(biases["params"])] == [1, 1]
    assert (weights["lr"], weights["weight_decay"]) == (0.01, 1e-4)
    assert (biases["lr"], biases["weight_decay"]) == (0.02, 0.0)
    assert weights["momentum"] == biases["momentum"] == 0.9


@pytest.mark.usefixtures("_float64")
def test_twenty_steps_are_those_of_the_plain_optimiser():
    """The fused one rounds in another order."""
    torch.manual_seed(0)
    fast, plain = nn.Linear(300, 50), nn.Linear(300, 50)
    plain.load_state_dict(fast.state_dict())
    optimizers = [build_optimizer(fast, coco()), build_optimizer(plain, coco())]
    for group in optimizers[1].param_groups:
        group["fused"] = False
    for step in range(20):
        inputs = torch.randn(8, 300, generator=torch.Generator().manual_seed(step))
        losses = [model(inputs).square().mean() for model in (fast, plain)]
        torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.usefixtures("_unset_memory_is_nan")
@pytest.mark.parametrize("overflows", [1, 3])
def test_steps_that_the_gradient_scaler_skips_leave_no_trace(overflows: int):
    """The first scales of float16 overflow; what is then trained is what a run without them trains."""

    def train(steps: int, overflows: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 2))
        optimizer = build_optimizer(model, coco(precision="float16"))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(-overflows, steps):
            inputs = torch.randn(8, 30, generator=torch.Generator().manual_seed(abs(step)))
            optimizer.zero_grad()
            scaler.scale(model(inputs).square().mean() * (torch.inf if step < 0 else 1)).backward()
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == 2.0 ** (10 - overflows), "each overflow halves the scale"
        return [*model.parameters()]

    # Scales are powers of two, so that they round nothing.
    for value, expected in zip(train(5, overflows), train(5, 0), strict=True):
        assert expected.isfinite().all()
        assert torch.equal(value, expected)
