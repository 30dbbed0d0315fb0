"""The paper's optimiser and schedule, for any global batch."""

import torch
from torch import nn

from dynrcnn_ray.config.trial_config import TrialConfig

_BIAS_LR_FACTOR = 2.0


def build_optimizer(model: nn.Module, config: TrialConfig) -> torch.optim.SGD:
    """SGD with momentum; biases learn twice as fast and do not decay."""
    weights, biases = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (biases if name.endswith("bias") else weights).append(parameter)
    groups = [
        {"params": weights, "weight_decay": config.train.weight_decay, "lr_factor": 1.0},
        {"params": biases, "weight_decay": 0.0, "lr_factor": _BIAS_LR_FACTOR},
    ]
    # Where the scaler of float16 skips the first steps, the fused step leaves the momentum uninitialised memory.
    fused = None if config.train.precision == "float16" else True
    return torch.optim.SGD(groups, lr=learning_rate(config, 0), momentum=config.train.momentum, fused=fused)


def learning_rate(config: TrialConfig, step: int) -> float:
    """Learning rate of a step, counted from 0: linear warm-up, then a tenth after each milestone.

    Another global batch than the reference scales the rate linearly and the schedule inversely.
    """
    settings = config.train
    peak = settings.learning_rate * config.batch_ratio
    warmup_steps = settings.warmup_steps / config.batch_ratio
    passed = sum(step >= round(milestone * config.total_steps) for milestone in settings.milestones)
    warmup = 1.0
    if step < warmup_steps:
        warmup = settings.warmup_factor + (1 - settings.warmup_factor) * step / warmup_steps
    return peak * warmup * 0.1**passed


def set_learning_rate(optimizer: torch.optim.SGD, rate: float) -> None:
    """Set the rate of this step in every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
