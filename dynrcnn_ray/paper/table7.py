"""Table 7 of the paper (Section 5.5): training and inference speed of Dynamic against Cascade R-CNN.

Eight rows: Dynamic and Cascade R-CNN, and both with masks, with two backbones; `tiny` and `small` at scales smoke and
mini.

The paper found (one RTX 2080TI, batch 1): Dynamic R-CNN runs 1.24 times as many images per second as Cascade R-CNN with
ResNet-50-FPN, and 1.55 times with masks; 1.17 and 1.53 with ResNet-101-FPN. Its training costs nothing extra. (The text
gives Cascade R-CNN 9.6 images per second with ResNet-50 where the table says 11.2; the table is right.)

The models' heads are untrained and their score threshold is 0: all select from all candidates and return as many
detections, and masks, as they may.

Cost: no training; four minutes at scale mini on two cores.

Command:  dynrcnn table7 [--rounds 40] [--scale coco --data.root DIR --model.weights none]
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import check_not_set
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import RunOptions, start_from_base, storage_location
from dynrcnn_ray.paper.rows import backbone_name, deeper

if TYPE_CHECKING:
    from dynrcnn_ray.paper.speed import Speed

NAME = "table7"
NAMES = {
    "Dynamic R-CNN": "faster_rcnn",
    "Cascade R-CNN": "cascade_rcnn",
    "Dynamic Mask R-CNN": "mask_rcnn",
    "Cascade Mask R-CNN": "cascade_mask_rcnn",
}
SETS = (
    "model.name",
    "model.backbone",
    "model.score_threshold",
    "dynamic.dla",
    "dynamic.dsl",
    "train.global_batch",
    "run.num_workers",
)
# Images per second of the paper: with the shallow and with the deep backbone.
PAPER = {
    "Dynamic R-CNN": (13.9, 11.2),
    "Cascade R-CNN": (11.2, 9.6),
    "Dynamic Mask R-CNN": (11.3, 9.8),
    "Cascade Mask R-CNN": (7.3, 6.4),
}


@dataclass(frozen=True)
class SpeedOptions(RunOptions):
    """Options of the command `table7`."""

    rounds: int = 40
    """Timed rounds of each backbone; each trains on and detects in one image with every model."""


def models(base: TrialConfig) -> dict[str, TrialConfig]:
    """The four models: the cascades at fixed thresholds, all with one image a step."""
    configs = {}
    for name, kind in NAMES.items():
        dynamic = name.startswith("Dynamic")
        configs[name] = dataclasses.replace(
            base,
            model=dataclasses.replace(base.model, name=kind, score_threshold=0.0),
            dynamic=dataclasses.replace(base.dynamic, dla=dynamic, dsl=dynamic),
            train=dataclasses.replace(base.train, global_batch=1),
        )
    return configs


def run_table7(options: SpeedOptions, call: Call) -> int:
    """Measure, print the table and write it."""
    if options.rounds < 1:
        raise ConfigError(f"--rounds: {options.rounds} must be 1 or greater")
    base = options.config()
    check_not_set(base, base_config(options.scale), SETS, call.command)
    backbones = (base, deeper(base))
    if options.dry_run:
        names = " and ".join(backbone_name(config) for config in backbones)
        print(f"table7, scale {base.scale}: {', '.join(NAMES)}; {names}; {options.rounds} rounds each")
        return 0

    import torch

    from dynrcnn_ray.data.coco import CocoDataset
    from dynrcnn_ray.data.prepare import prepare_data
    from dynrcnn_ray.execution.run import require_models
    from dynrcnn_ray.paper.speed import measure_speed
    from dynrcnn_ray.paper.speed_table import SPEED_FILE, speed_markdown, speed_parquet
    from dynrcnn_ray.store.results_store import ResultStore
    from dynrcnn_ray.training.collectives import Worker
    from dynrcnn_ray.training.environment import describe_hardware

    store = ResultStore.open(storage_location(options.storage, options.scale))
    require_models([Trial(each) for config in backbones for each in models(config).values()], store)
    store.files.require_writable()
    prepared = prepare_data(base.data, include_masks=True)
    dataset = CocoDataset(prepared.root, base.data.val_split, include_masks=True)
    torch.set_num_threads(base.run.threads_per_worker)
    worker = Worker(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    rows = []
    for index, config in enumerate(backbones):
        name = backbone_name(config)
        speeds = measure_speed(
            models(config),
            dataset,
            worker,
            rounds=options.rounds,
            on_round=lambda done, name=name: print(
                f"\r{name}: round {max(0, done)}/{options.rounds}", end="", flush=True
            ),
        )
        print()
        rows += table_rows(speeds, index, config, options.rounds, describe_hardware(worker.device))
    text = speed_markdown(rows)
    print(f"\n{text}")
    written = {SPEED_FILE: speed_parquet(rows), "tables/table7.md": text.encode()}
    written["tables/table7.json"] = json.dumps(rows, indent=1).encode()
    for relative, content in written.items():
        store.files.write_bytes(relative, content)
        print(store.files.describe_path(relative))
    return 0


def table_rows(
    speeds: Sequence["Speed"], backbone: int, config: TrialConfig, rounds: int, hardware: str
) -> list[dict[str, Any]]:
    """Rows of `schemas.SPEED`, one a model.

    Args:
        speeds: of the models with one backbone.
        backbone: 0 for the shallow, 1 for the deep one: the paper's numbers to set beside.
        config: the trial that names scale and backbone.
        rounds: how many were timed.
        hardware: where.
    """
    by_model = {(speed.model, speed.phase): speed for speed in speeds}
    rows = []
    for model in NAMES:
        inference, training = by_model[model, "inference"], by_model[model, "training"]
        rows.append(
            {
                "backbone": backbone_name(config),
                "model": model,
                "training_images_per_second": training.median,
                "training_lower_quartile": training.lower,
                "training_upper_quartile": training.upper,
                "inference_images_per_second": inference.median,
                "inference_lower_quartile": inference.lower,
                "inference_upper_quartile": inference.upper,
                "inference_images_per_second_paper": PAPER[model][backbone],
                "scale": config.scale,
                "rounds": rounds,
                "hardware": hardware,
            }
        )
    return rows


COMMAND = Command(
    name=NAME,
    group="Reproduce the paper",
    title="Table 7, Section 5.5: images per second of Dynamic against Cascade R-CNN",
    description=__doc__ or "",
    options=SpeedOptions,
    run=run_table7,
    defaults=start_from_base(SpeedOptions),
)
