"""Measure this machine: paired comparisons, written as `tables/benchmarks.parquet` and `.md` in the storage.

Each line names what it compares with; both sides run in turn, and the ratio is the median over the rounds. Lines are
written as soon as they are measured, so that a run that is stopped leaves them. A later run with `--only` replaces the
lines of those benchmarks and keeps the others. Measure on a machine that does nothing else. With `--against`, training
and detection are measured against another library's detector, which must be installed.

Command:  dynrcnn benchmark [--only NAME ...] [--against detectron2 mmdetection] [--rounds N] [--device cuda]
          [--data.root DIR] [--storage DIR]
"""

from dataclasses import dataclass, field
from typing import Literal

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.former import with_flags_of_today
from dynrcnn_ray.options.shared import StoreOptions

NAMES = (
    "training_step",
    "step_parts",
    "shards",
    "reference_loop",
    "loader",
    "inference",
    "evaluation",
    "memory",
    "collective",
    "store",
    "verdicts",
    "ray",
    "predict",
    "startup",
    "grid",
)
PEERS = ("detectron2", "mmdetection")
"""What `--against` knows; the lines of one are a benchmark of its own, `against_` and its name."""
ON_THE_GPU = ("training_step", "inference", "memory")
"""The benchmarks that are measured on a GPU; the others are those of the host."""


@dataclass(frozen=True)
class BenchmarkData:
    """What ResNet-50 is measured on."""

    root: str = ""
    """Folder of COCO 2017, or of a part of it, for the lines of ResNet-50. Empty: generated images."""


@dataclass(frozen=True)
class BenchmarkOptions(StoreOptions):
    """Options of the command `benchmark`."""

    only: tuple[str, ...] = ()
    """Measure these alone: training_step, step_parts, shards, reference_loop, loader, inference, evaluation,
    memory, collective, store, verdicts, ray, predict, startup, grid."""
    against: tuple[Literal["detectron2", "mmdetection"], ...] = ()
    """Measure a training step and inference against these libraries, and of the others only what `--only` names."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train and detect. With `cuda`, only what uses the GPU is measured: training_step, inference, memory."""
    rounds: int = 0
    """Rounds of each benchmark. 0: as many as each needs."""
    data: BenchmarkData = field(default_factory=BenchmarkData)
    dry_run: bool = False
    """Only say what would be measured."""


def _check(options: BenchmarkOptions, _call: Call) -> None:
    unknown = [name for name in options.only if name not in NAMES]
    if unknown:
        raise ConfigError(f"--only: {unknown[0]!r} is no benchmark; allowed: {', '.join(NAMES)}")
    on_host = [name for name in options.only if name not in ON_THE_GPU]
    if options.device == "cuda" and on_host:
        raise ConfigError(f"--only: {on_host[0]!r} has no part on a GPU; with --device cuda: {', '.join(ON_THE_GPU)}")
    if options.against and options.device == "cuda":
        raise ConfigError("--against: other libraries are measured on the CPU alone; leave out --device cuda")
    if options.rounds < 0:
        raise ConfigError(f"--rounds: {options.rounds} must be 0 or greater")


COMMAND = Command(
    name="benchmark",
    group="For developers",
    title="measure this machine: paired comparisons with what people would use instead",
    description=__doc__ or "",
    options=BenchmarkOptions,
    body="benchmarks.benchmark:run_benchmark",
    tables=("benchmarks",),
    check=_check,
    former=with_flags_of_today,
)
