"""What the command `table7` does: measures the models' speed, prints the table and writes it."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import torch

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.execution.required_models import require_models
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.progress import show_progress
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.paper.rows import backbone_name, deeper
from dynrcnn_ray.paper.speed import Speed, measure_speed
from dynrcnn_ray.paper.speed_table import SPEED_FILE, speed_markdown, speed_parquet
from dynrcnn_ray.paper.table7 import NAMES, PAPER, SpeedOptions
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.environment import describe_hardware


def models(base: TrialConfig) -> dict[str, TrialConfig]:
    """The four models: the cascades at fixed thresholds, all with one image a step."""
    configs = {}
    for name, kind in NAMES.items():
        dynamic = name.startswith("Dynamic")
        configs[name] = dataclasses.replace(
            base,
            model=dataclasses.replace(base.model, name=kind, score_threshold=0.0),
            dynamic=dataclasses.replace(base.dynamic, dla=dynamic, dsl=dynamic),
            train=dataclasses.replace(base.train, global_batch=1, shards=1),
        )
    return configs


def run_table7(options: SpeedOptions, _call: Call) -> int:
    """Measure, print the table and write it."""
    base = options.config()
    backbones = (base, deeper(base))
    if options.dry_run:
        names = " and ".join(backbone_name(config) for config in backbones)
        print(f"table7, scale {base.scale}: {', '.join(NAMES)}; {names}; {options.rounds} rounds each")
        return 0

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
            on_round=lambda done, name=name: show_progress(
                f"{name}: round {max(0, done)}/{options.rounds}", is_last=done == options.rounds
            ),
        )
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
    speeds: Sequence[Speed], backbone: int, config: TrialConfig, rounds: int, hardware: str
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
