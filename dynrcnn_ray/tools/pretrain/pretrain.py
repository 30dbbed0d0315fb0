"""What the command `pretrain` does: trains both backbones, and writes their weights and how they were made."""

import contextlib
import dataclasses
import json
import shlex
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import PRETRAINING_SEED
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.execution.commit import git_commit
from dynrcnn_ray.experiment.experiment import with_fields
from dynrcnn_ray.models.backbone_weights import write_backbone_weights
from dynrcnn_ray.options.command import PROGRAM_NAME, Call
from dynrcnn_ray.options.output import output_folder, write_whole, writing
from dynrcnn_ray.tools.pretrain.command import BACKBONES, FILES, PretrainOptions
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.environment import package_versions
from dynrcnn_ray.training.events import Logged
from dynrcnn_ray.training.inference import detect, metrics_of
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.state import build_training_state

TIMES_AS_LONG = 4
"""Steps of pretraining for one step of a trial, by default."""
METRICS = ("AP", "AP50", "AP90")


def pretraining(options: PretrainOptions, backbone: str) -> TrialConfig:
    """The training whose backbone becomes the weights."""
    base = dataclasses.replace(base_config(options.scale), seed=PRETRAINING_SEED)
    base = with_fields(base, "model", name="faster_rcnn", backbone=backbone, weights="none")
    base = with_fields(base, "dynamic", dla=False, dsl=False)
    base = with_fields(base, "train", steps=options.steps or TIMES_AS_LONG * base.train.steps)
    shapes = dataclasses.replace(base.data.shapes, seed=PRETRAINING_SEED)
    return validate(with_fields(with_fields(base, "data", shapes=shapes), "run", num_workers=1))


def run_pretrain(options: PretrainOptions, call: Call) -> int:
    """Train both, write their weights and how they were made."""
    configs = {backbone: pretraining(options, backbone) for backbone in BACKBONES}
    output = output_folder(options.output, FILES)
    if options.dry_run:
        for backbone, config in configs.items():
            print(f"{backbone}: {config.total_steps} steps of {config.train.global_batch} images, from scratch")
        return 0
    record = {
        "command": shlex.join([PROGRAM_NAME, call.command, *call.arguments]),
        "commit": git_commit(),
    }
    record |= {"seed": PRETRAINING_SEED, "images_seed": PRETRAINING_SEED}
    record |= {"versions": package_versions()}
    inputs = prepare_data(configs["tiny"].data).inputs
    prepared = [Trial(config, inputs) for config in configs.values()]
    file = output / "made_by.json"
    with _processes() as processes:
        made = processes.map(_pretrain, prepared, [output] * len(BACKBONES))
        record |= {"backbones": dict(zip(BACKBONES, made, strict=True))}
    with writing(file):
        write_whole(file, (json.dumps(record, indent=2) + "\n").encode())
    print(file)
    return 0


@contextlib.contextmanager
def _processes() -> Iterator[ProcessPoolExecutor]:
    """A process for each backbone; an interrupt ends them with the command, without a word of their own."""
    quietly = (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(
        len(BACKBONES), mp_context=get_context("spawn"), initializer=signal.signal, initargs=quietly
    ) as processes:
        try:
            yield processes
        except KeyboardInterrupt:
            for process in active_children():
                process.terminate()
            raise


def _pretrain(trial: Trial, output: Path) -> dict[str, Any]:
    """Train one backbone and write its weights.

    Returns:
        What is recorded of them.
    """
    config, root = trial.config, trial.inputs.data_root
    backbone = config.model.backbone
    images = CocoDataset(root, config.data.train_split)
    val_images = CocoDataset(root, config.data.val_split)
    torch.set_num_threads(config.run.threads_per_worker)
    state = build_training_state(trial, len(images.class_names), Worker(device=torch.device("cpu")))
    for event in train(config, state, images):
        if isinstance(event, Logged):
            print(f"{backbone}: step {event.row['step']}/{config.total_steps}", flush=True)
    metrics = metrics_of(config, val_images, detect(config, state.model, val_images, state.worker))
    file = output / f"{backbone}.npz"
    body = state.model.get_submodule("backbone.body")
    arrays = {name: value.numpy() for name, value in body.state_dict().items()}
    with writing(file):
        fingerprint = write_backbone_weights(file, arrays)
    print(f"{file}: {fingerprint}, from a training that ended with AP {metrics['AP']:.1f}")
    return {
        "fingerprint": fingerprint,
        "trial_id": trial.trial_id,
        "steps": config.total_steps,
        "images": trial.inputs.data,
        **{name: round(metrics[name] or 0.0, 1) for name in METRICS},
    }
