"""Make the pretrained weights of `tiny` and `small`, with which scale `mini` starts as the paper does with ImageNet's.

Each is the body of a Faster R-CNN, without pyramid and heads, that trained without dynamic parts on generated images.
No trial sees these images: every image is drawn from (data.shapes.seed, split, index), pretraining has the seed 4242 to
itself, and a trial with this seed and such weights is refused. Initial weights and data order come from that seed too.

**How long, and why.** What counts is the paper's regime, not what dynamic training gains: T_now above 0.5 within the
first sixth of a run, and an AP50 within a point or two of where it ends after twice the steps. Rows of Table 3 with
`tiny`, seed 0, one worker:

| pretraining | row | T_now at step 80, 100 | AP50 after 600 steps | after 1200 | difference |
|---|---|---|---|---|---|
| 600 steps | baseline | 0.499, 0.520 | 86.7 | 89.4 | 2.7 |
| 600 steps | DLA + DSL | 0.497, 0.517 | 85.3 | 89.5 | 4.2 |
| 2400 steps | baseline | 0.495, 0.515 | 90.3 | 92.1 | 1.8 |
| 2400 steps | DLA + DSL | 0.495, 0.512 | 90.2 | not measured | |

600 steps, as long as a trial, leave too much of AP50 to the trial; after 2400 the baseline meets both demands, so they
were chosen. Nothing in between was tried. (The rows of 600 steps are of earlier code, which trained on images without
objects too.) Classifying cropped shapes, which is nearer to ImageNet, was tried in a prototype: the baseline ended at
AP 51.8, below its 56.0 from scratch.

Writes `tiny.npz`, `small.npz` and `made_by.json`: the command, commit, seeds and versions that made them, and their
fingerprints. The package's own are in dynrcnn_ray/models/pretrained; others are used by --model.weights FILE.

Cost: 20 minutes at scale mini on two CPU cores that had other work too.

Command:  dynrcnn pretrain [--scale smoke|mini] [--steps N] [--output DIR]
"""

import contextlib
import dataclasses
import json
import shlex
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Literal

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import PRETRAINING_SEED
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, validate
from dynrcnn_ray.execution.commit import git_commit
from dynrcnn_ray.experiment.experiment import with_fields
from dynrcnn_ray.options.command import PROGRAM_NAME, Call, Command
from dynrcnn_ray.options.output import output_folder, write_whole, writing

BACKBONES = ("tiny", "small")
TIMES_AS_LONG = 4
"""Steps of pretraining for one step of a trial, by default."""
METRICS = ("AP", "AP50", "AP90")


@dataclass(frozen=True)
class PretrainOptions:
    """Options of the command `pretrain`."""

    scale: Literal["smoke", "mini"] = "mini"
    """The size of data and schedule."""
    steps: int = 0
    """Training steps. 0: four times those of the scale's trials."""
    output: Path = Path("pretrained")
    """Folder of the weights."""
    dry_run: bool = False
    """Only say what would run."""


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
    if options.steps < 0:
        raise ConfigError(f"--steps: {options.steps} must be 0 or greater")
    configs = {backbone: pretraining(options, backbone) for backbone in BACKBONES}
    names = [*(f"{backbone}.npz" for backbone in BACKBONES), "made_by.json"]
    output = output_folder(options.output, names)
    if options.dry_run:
        for backbone, config in configs.items():
            print(f"{backbone}: {config.total_steps} steps of {config.train.global_batch} images, from scratch")
        return 0
    # Imported late: torch takes seconds, and a wrong command should be refused at once.
    from dynrcnn_ray.data.prepare import prepare_data
    from dynrcnn_ray.training.environment import package_versions

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
    import torch

    from dynrcnn_ray.data.coco import CocoDataset
    from dynrcnn_ray.models.weights import write_backbone_weights
    from dynrcnn_ray.training.collectives import Worker
    from dynrcnn_ray.training.events import Logged
    from dynrcnn_ray.training.inference import detect, metrics_of
    from dynrcnn_ray.training.loop import build_training_state, train

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
        file.parent.mkdir(parents=True, exist_ok=True)
        fingerprint = write_backbone_weights(file, arrays)
    print(f"{file}: {fingerprint}, from a training that ended with AP {metrics['AP']:.1f}")
    return {
        "fingerprint": fingerprint,
        "trial_id": trial.trial_id,
        "steps": config.total_steps,
        "images": trial.inputs.data,
        **{name: round(metrics[name] or 0.0, 1) for name in METRICS},
    }


COMMAND = Command(
    name="pretrain",
    group="For developers",
    title="make the backbones' weights that scale mini starts from",
    description=__doc__ or "",
    options=PretrainOptions,
    run=run_pretrain,
)
