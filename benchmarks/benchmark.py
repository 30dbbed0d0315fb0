"""What the command `benchmark` does: measures, prints and writes the table."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks.collective import measure_collective
from benchmarks.command import NAMES, ON_THE_GPU, PEERS, BenchmarkOptions
from benchmarks.evaluation import measure_evaluation
from benchmarks.grid import measure_grid
from benchmarks.inference import measure_inference
from benchmarks.loader import measure_loader
from benchmarks.markdown import benchmarks_markdown, row_line
from benchmarks.memory import measure_memory
from benchmarks.peers import BUILDERS, measure_against, require_peer
from benchmarks.prediction import measure_prediction
from benchmarks.ray_overhead import measure_ray_overhead
from benchmarks.reference_loop import measure_reference_loop
from benchmarks.schema import BENCHMARKS
from benchmarks.shards import measure_shards
from benchmarks.startup import measure_startup
from benchmarks.step_parts import measure_step_parts
from benchmarks.store import measure_store
from benchmarks.training_step import measure_training_step
from benchmarks.verdicts import measure_verdicts
from benchmarks.workbench import Workbench, build_workbench
from dynrcnn_ray.execution.commit import git_commit
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.environment import describe_hardware, require_gpu

_ORDER = (*NAMES, *(f"against_{peer}" for peer in PEERS))
PARQUET_FILE = "tables/benchmarks.parquet"
MARKDOWN_FILE = "tables/benchmarks.md"
JSON_FILE = "tables/benchmarks.json"


@dataclass(frozen=True)
class Benchmark:
    """One family of lines.

    Attributes:
        measure: yields the rows; takes the workbench and the number of rounds.
        rounds: default number of rounds.
        minutes: estimate on two quiet cores.
    """

    measure: Callable[[Workbench, int], Iterator[dict[str, Any]]]
    rounds: int
    minutes: float


def benchmarks() -> dict[str, Benchmark]:
    """All of them by name, in the order in which they run: those that start Ray come last."""
    in_order = (
        Benchmark(measure_training_step, rounds=300, minutes=10),
        Benchmark(measure_step_parts, rounds=60, minutes=1),
        Benchmark(measure_shards, rounds=60, minutes=5),
        Benchmark(measure_reference_loop, rounds=6, minutes=2.5),
        Benchmark(measure_loader, rounds=3, minutes=1.5),
        Benchmark(measure_inference, rounds=300, minutes=2),
        Benchmark(measure_evaluation, rounds=1, minutes=1),
        Benchmark(measure_memory, rounds=1, minutes=2),
        Benchmark(measure_collective, rounds=200, minutes=0.5),
        Benchmark(measure_store, rounds=1, minutes=2),
        Benchmark(measure_verdicts, rounds=20_000, minutes=25),
        Benchmark(measure_ray_overhead, rounds=6, minutes=9),
        Benchmark(measure_prediction, rounds=6, minutes=9),
        Benchmark(measure_startup, rounds=2, minutes=1.5),
        Benchmark(measure_grid, rounds=1, minutes=4.5),
    )
    return dict(zip(NAMES, in_order, strict=True))


def _against(peers: Sequence[str]) -> dict[str, Benchmark]:
    return {f"against_{peer}": Benchmark(measure_against(peer, BUILDERS[peer]), rounds=20, minutes=4) for peer in peers}


def run_benchmark(options: BenchmarkOptions, _call: Call) -> int:
    """Measure, print and write the table."""
    for peer in options.against:
        require_peer(peer)
    by_default = () if options.against else ON_THE_GPU if options.device == "cuda" else NAMES
    names = options.only or by_default
    chosen = {name: each for name, each in benchmarks().items() if name in names} | _against(options.against)
    print(f"About {sum(each.minutes for each in chosen.values()):.0f} minutes on two quiet cores.", flush=True)
    if options.dry_run:
        for name, each in chosen.items():
            print(f"  {name:<15} {options.rounds or each.rounds:>4} rounds, about {each.minutes:g} minutes")
        return 0

    if options.device == "cuda":
        require_gpu()
    worker = Worker(device=torch.device(options.device))
    store = ResultStore.open(storage_location(options.storage, "mini"))
    _earlier_rows(store)  # A table that cannot be read is told now, not after minutes.
    commit = git_commit()
    with tempfile.TemporaryDirectory(prefix="dynrcnn_ray_benchmark_") as scratch:
        bench = build_workbench(Path(scratch), options.data.root, worker)
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


def _measure(name: str, rows: Iterator[dict[str, Any]], store: ResultStore, where: Mapping[str, str]) -> None:
    """Write each row as it comes, in the place of the benchmark's earlier ones."""
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
    rows = [row for row in _earlier_rows(store) if _benchmark_of(row) != benchmark] + [dict(row) for row in measured]
    rows.sort(key=lambda row: _ORDER.index(_benchmark_of(row)))
    table = pa.Table.from_pylist(rows, schema=BENCHMARKS)
    store.files.write_bytes(PARQUET_FILE, to_parquet_bytes(table, PARQUET_FILE))
    store.files.write_bytes(MARKDOWN_FILE, benchmarks_markdown(table.to_pylist()).encode())
    store.files.write_bytes(JSON_FILE, json.dumps(table.to_pylist(), indent=1, default=str).encode())


def _earlier_rows(store: ResultStore) -> list[dict[str, Any]]:
    table = store.read_table(PARQUET_FILE, BENCHMARKS)
    return table.to_pylist() if table else []


def _benchmark_of(row: Mapping[str, Any]) -> str:
    return row["name"].partition(".")[0]
