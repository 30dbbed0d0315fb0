"""Measure this machine: paired comparisons, written as `tables/benchmarks.parquet` and `.md` in the storage.

Each line names what it compares with; both sides run in turn, and the ratio is the median over the rounds. Lines are
written as soon as they are measured, so that a run that is stopped leaves them. A later run with `--only` replaces the
lines of those benchmarks and keeps the others. Measure on a machine that does nothing else. With `--against`, training
and detection are measured against another library's detector, which must be installed.

Command:  dynrcnn benchmark [--only NAME ...] [--against detectron2 mmdetection] [--rounds N] [--device cuda]
          [--data-root DIR] [--storage DIR]
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution.commit import git_commit
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import StoreOptions, storage_location
from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore

if TYPE_CHECKING:
    from benchmarks.workbench import Workbench

NAMES = (
    "training_step",
    "step_parts",
    "reference_loop",
    "loader",
    "inference",
    "evaluation",
    "memory",
    "collective",
    "store",
    "ray",
    "predict",
    "startup",
    "grid",
)
PEERS = ("detectron2", "mmdetection")
"""What `--against` knows; the lines of one are a benchmark of its own, `against_` and its name."""
_ORDER = (*NAMES, *(f"against_{peer}" for peer in PEERS))
ON_THE_GPU = ("training_step", "inference", "memory")
"""The benchmarks that are measured on a GPU; the others are those of the host."""
PARQUET_FILE = "tables/benchmarks.parquet"
MARKDOWN_FILE = "tables/benchmarks.md"
JSON_FILE = "tables/benchmarks.json"


@dataclass(frozen=True)
class BenchmarkOptions(StoreOptions):
    """Options of the command `benchmark`."""

    only: tuple[str, ...] = ()
    """Measure these alone: training_step, step_parts, reference_loop, loader, inference, evaluation, memory,
    collective, store, ray, predict, startup, grid."""
    against: tuple[Literal["detectron2", "mmdetection"], ...] = ()
    """Measure a training step and inference against these libraries, and of the others only what `--only` names."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train and detect. With `cuda`, only what uses the GPU is measured: training_step, inference, memory."""
    rounds: int = 0
    """Rounds of each benchmark. 0: as many as each needs."""
    data_root: str = ""
    """Folder of COCO 2017, or of a part of it, for the lines of ResNet-50. Empty: generated images."""
    dry_run: bool = False
    """Only say what would be measured."""


@dataclass(frozen=True)
class Benchmark:
    """One family of lines.

    Attributes:
        measure: yields the rows; takes the workbench and the number of rounds.
        rounds: default number of rounds.
        minutes: estimate on two quiet cores.
    """

    measure: "Callable[[Workbench, int], Iterator[dict[str, Any]]]"
    rounds: int
    minutes: float


def benchmarks() -> dict[str, Benchmark]:
    """All of them by name, in the order in which they run: those that start Ray come last."""
    # Imported late: torch and Ray take seconds, and a wrong command should be refused at once.
    from benchmarks.collective import measure_collective
    from benchmarks.evaluation import measure_evaluation
    from benchmarks.grid import measure_grid
    from benchmarks.inference import measure_inference
    from benchmarks.loader import measure_loader
    from benchmarks.memory import measure_memory
    from benchmarks.prediction import measure_prediction
    from benchmarks.ray_overhead import measure_ray_overhead
    from benchmarks.reference_loop import measure_reference_loop
    from benchmarks.startup import measure_startup
    from benchmarks.step_parts import measure_step_parts
    from benchmarks.store import measure_store
    from benchmarks.training_step import measure_training_step

    in_order = (
        Benchmark(measure_training_step, rounds=300, minutes=10),
        Benchmark(measure_step_parts, rounds=60, minutes=1),
        Benchmark(measure_reference_loop, rounds=6, minutes=2.5),
        Benchmark(measure_loader, rounds=3, minutes=1.5),
        Benchmark(measure_inference, rounds=300, minutes=2),
        Benchmark(measure_evaluation, rounds=1, minutes=1),
        Benchmark(measure_memory, rounds=1, minutes=2),
        Benchmark(measure_collective, rounds=200, minutes=0.5),
        Benchmark(measure_store, rounds=1, minutes=2),
        Benchmark(measure_ray_overhead, rounds=6, minutes=9),
        Benchmark(measure_prediction, rounds=6, minutes=9),
        Benchmark(measure_startup, rounds=2, minutes=1.5),
        Benchmark(measure_grid, rounds=1, minutes=4.5),
    )
    return dict(zip(NAMES, in_order, strict=True))


def _against(peers: Sequence[str]) -> dict[str, Benchmark]:
    from benchmarks.peers import BUILDERS, measure_against

    return {f"against_{peer}": Benchmark(measure_against(peer, BUILDERS[peer]), rounds=20, minutes=4) for peer in peers}


def run_benchmark(options: BenchmarkOptions, _call: Call) -> int:
    """Measure, print and write the table."""
    _check(options)
    by_default = () if options.against else ON_THE_GPU if options.device == "cuda" else NAMES
    names = options.only or by_default
    chosen = {name: each for name, each in benchmarks().items() if name in names} | _against(options.against)
    print(f"About {sum(each.minutes for each in chosen.values()):.0f} minutes on two quiet cores.", flush=True)
    if options.dry_run:
        for name, each in chosen.items():
            print(f"  {name:<15} {options.rounds or each.rounds:>4} rounds, about {each.minutes:g} minutes")
        return 0

    import torch

    from benchmarks.workbench import build_workbench
    from dynrcnn_ray.training.collectives import Worker
    from dynrcnn_ray.training.environment import describe_hardware, require_gpu

    if options.device == "cuda":
        require_gpu()
    worker = Worker(device=torch.device(options.device))
    store = ResultStore.open(storage_location(options.storage, "mini"))
    _earlier_rows(store)  # A table that cannot be read is told now, not after minutes.
    commit = git_commit()
    with tempfile.TemporaryDirectory(prefix="dynrcnn_ray_benchmark_") as scratch:
        bench = build_workbench(Path(scratch), options.data_root, worker)
        for number, (name, each) in enumerate(chosen.items(), start=1):
            rounds = options.rounds or each.rounds
            label = f"[{number}/{len(chosen)}] {name}"
            print(f"{label}: {rounds} rounds, about {each.minutes:g} minutes", flush=True)
            started = time.perf_counter()
            where = {"commit": commit} | ({"hardware": describe_hardware(worker.device)} if bench.on_gpu else {})
            _measure(name, each.measure(bench, rounds), store, where)
            print(f"{label}: done in {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)
    for relative in (PARQUET_FILE, MARKDOWN_FILE, JSON_FILE):
        print(store.files.describe_path(relative))
    return 0


def _check(options: BenchmarkOptions) -> None:
    unknown = [name for name in options.only if name not in NAMES]
    if unknown:
        raise ConfigError(f"--only: {unknown[0]!r} is no benchmark; allowed: {', '.join(NAMES)}")
    on_host = [name for name in options.only if name not in ON_THE_GPU]
    if options.device == "cuda" and on_host:
        raise ConfigError(f"--only: {on_host[0]!r} has no part on a GPU; with --device cuda: {', '.join(ON_THE_GPU)}")
    if options.against and options.device == "cuda":
        raise ConfigError("--against: other libraries are measured on the CPU alone; leave out --device cuda")
    if options.against:
        from benchmarks.peers import require_peer

        for peer in options.against:
            require_peer(peer)
    if options.rounds < 0:
        raise ConfigError(f"--rounds: {options.rounds} must be 0 or greater")


def _measure(name: str, rows: Iterator[dict[str, Any]], store: ResultStore, where: Mapping[str, str]) -> None:
    """Write each row as it comes, in the place of the benchmark's earlier ones."""
    from benchmarks.markdown import row_line

    measured: list[dict[str, Any]] = []
    for row in rows:
        measured.append({**row, **where})
        print(f"  {row_line(row)}", flush=True)
        write_rows(store, name, measured)


def write_rows(store: ResultStore, benchmark: str, measured: Sequence[Mapping[str, Any]]) -> None:
    """Put a benchmark's rows into the table, which keeps those of the others.

    Raises:
        StoreError: the table that is there is of another kind, or the storage cannot be written.
    """
    from benchmarks.markdown import benchmarks_markdown
    from benchmarks.schema import BENCHMARKS

    rows = [row for row in _earlier_rows(store) if _benchmark_of(row) != benchmark] + [dict(row) for row in measured]
    rows.sort(key=lambda row: _ORDER.index(_benchmark_of(row)))
    table = pa.Table.from_pylist(rows, schema=BENCHMARKS)
    store.files.write_bytes(PARQUET_FILE, to_parquet_bytes(table, PARQUET_FILE))
    store.files.write_bytes(MARKDOWN_FILE, benchmarks_markdown(table.to_pylist()).encode())
    store.files.write_bytes(JSON_FILE, json.dumps(table.to_pylist(), indent=1, default=str).encode())


def _earlier_rows(store: ResultStore) -> list[dict[str, Any]]:
    from benchmarks.schema import BENCHMARKS

    table = store.read_table(PARQUET_FILE, BENCHMARKS)
    return table.to_pylist() if table else []


def _benchmark_of(row: Mapping[str, Any]) -> str:
    return row["name"].partition(".")[0]


COMMAND = Command(
    name="benchmark",
    group="For developers",
    title="measure this machine: paired comparisons with what people would use instead",
    description=__doc__ or "",
    options=BenchmarkOptions,
    run=run_benchmark,
)
