"""The speed side of Table 7 (Section 5.5): Dynamic R-CNN against Cascade R-CNN, with and without masks.

The paper found (one RTX 2080TI, batch 1): Dynamic R-CNN runs 1.24 times as many images per second as Cascade R-CNN with
ResNet-50-FPN, and 1.55 times with masks; 1.17 and 1.53 with ResNet-101-FPN. Its training costs nothing extra.

The models are untrained and their score threshold is 0: all select from all candidates and return as many detections,
and masks, as they may. Two minutes at scale mini.

Command:  python experiments/main.py speed [--rounds 40] [--model.backbone resnet50 --model.weights none]
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dynrcnn_ray.config import ConfigError, TrialConfig
from dynrcnn_ray.results.schemas import SPEED
from dynrcnn_ray.results.store import ResultStore, to_parquet_bytes
from dynrcnn_ray.results.table_text import simple_markdown
from dynrcnn_ray.scales import base_config
from experiments.experiment import check_not_set
from experiments.options import RunOptions, parse, storage_location

if TYPE_CHECKING:
    from dynrcnn_ray.engine.speed import Speed

# (model, what it is compared with)
PAIRS = (("Dynamic R-CNN", "Cascade R-CNN"), ("Dynamic Mask R-CNN", "Cascade Mask R-CNN"))
NAMES = {
    "Dynamic R-CNN": "faster_rcnn",
    "Cascade R-CNN": "cascade_rcnn",
    "Dynamic Mask R-CNN": "mask_rcnn",
    "Cascade Mask R-CNN": "cascade_mask_rcnn",
}
SETS = ("model.name", "model.score_threshold", "dynamic.dla", "dynamic.dsl", "train.global_batch", "run.num_workers")
# Images per second of the paper, by backbone and model.
PAPER = {
    "resnet50": {
        "Dynamic R-CNN": 13.9,
        "Cascade R-CNN": 11.2,
        "Dynamic Mask R-CNN": 11.3,
        "Cascade Mask R-CNN": 7.3,
    },
    "resnet101": {
        "Dynamic R-CNN": 11.2,
        "Cascade R-CNN": 9.6,
        "Dynamic Mask R-CNN": 9.8,
        "Cascade Mask R-CNN": 6.4,
    },
}


@dataclass(frozen=True)
class SpeedOptions(RunOptions):
    """Options of the command `speed`."""

    rounds: int = 40
    """Timed rounds; each trains on and detects in one image with every model."""


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


def run_speed(arguments: Sequence[str]) -> int:
    """Measure, print the table and write it."""
    options = parse(SpeedOptions, arguments, command="speed")
    if options.rounds < 1:
        raise ConfigError(f"--rounds: {options.rounds} must be 1 or greater")
    base = options.config()
    check_not_set(base, base_config(options.scale), SETS, "speed")
    configs = models(base)
    if options.dry_run:
        print(f"speed, scale {base.scale}: {', '.join(configs)}; {options.rounds} rounds")
        return 0

    import torch

    from dynrcnn_ray.data.coco import CocoDataset
    from dynrcnn_ray.data.prepare import prepare_data
    from dynrcnn_ray.engine.collectives import Worker
    from dynrcnn_ray.engine.environment import describe_hardware
    from dynrcnn_ray.engine.speed import measure_speed

    data = prepare_data(base.data)
    dataset = CocoDataset(data.root, data.val_split, include_masks=True)
    torch.set_num_threads(base.run.cpus_per_worker)
    worker = Worker(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    speeds = measure_speed(
        configs,
        dataset,
        worker,
        rounds=options.rounds,
        on_round=lambda done: print(f"\rround {max(0, done)}/{options.rounds}", end="", flush=True),
    )
    print("\n")
    rows = table_rows(speeds, base, describe_hardware(worker.device))
    store = ResultStore.open(storage_location(options.storage, options.scale))
    text = speed_markdown(rows, options.rounds)
    print(text)
    parquet = to_parquet_bytes(pa.Table.from_pylist(rows, schema=SPEED))
    for relative, content in {"tables/speed.parquet": parquet, "tables/speed.md": text.encode()}.items():
        store.write_bytes(relative, content)
        print(store.describe_path(relative))
    return 0


def table_rows(speeds: Sequence["Speed"], base: TrialConfig, hardware: str) -> list[dict[str, Any]]:
    """Rows of `schemas.SPEED`; the paper's numbers stand beside inference if it measured this backbone."""
    medians = {(speed.model, speed.phase): speed.median for speed in speeds}
    cascade_of = dict(PAIRS)
    rows = []
    for speed in speeds:
        paper = PAPER.get(base.model.backbone, {}) if speed.phase == "inference" else {}
        cascade = cascade_of.get(speed.model)
        rows.append(
            {
                "model": speed.model,
                "phase": speed.phase,
                "images_per_second": speed.median,
                "lower_quartile": speed.lower,
                "upper_quartile": speed.upper,
                "images_per_second_paper": paper.get(speed.model),
                "ratio_to_cascade": speed.median / medians[cascade, speed.phase] if cascade else None,
                "ratio_to_cascade_paper": paper[speed.model] / paper[cascade] if cascade and paper else None,
                "scale": base.scale,
                "backbone": base.model.backbone,
                "hardware": hardware,
            }
        )
    return rows


def speed_markdown(rows: Sequence[dict[str, Any]], rounds: int) -> str:
    """The table for people."""
    header = ["model", "phase", "images/s", "quartiles", "paper", "x cascade", "paper x cascade"]
    cells = [
        [
            row["model"],
            row["phase"],
            f"{row['images_per_second']:.2f}",
            f"{row['lower_quartile']:.2f} to {row['upper_quartile']:.2f}",
            _number(row["images_per_second_paper"], 1),
            _number(row["ratio_to_cascade"], 2),
            _number(row["ratio_to_cascade_paper"], 2),
        ]
        for row in rows
    ]
    return (
        f"{simple_markdown(header, cells)}\n\n"
        f"Scale {rows[0]['scale']}, {rows[0]['backbone']}, {rows[0]['hardware']}; one image at a time, medians of "
        f"{rounds} interleaved rounds, untrained models with as many detections as they may return. "
        "The paper's numbers are inference on one RTX 2080TI.\n"
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
