"""A store of many trials: listing, table and report, whether their time is linear, and the same on an object store."""

import contextlib
import importlib.util
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.paired import paired, timed
from benchmarks.processes import read_process
from benchmarks.schema import Row, at_most, compared_row, stated_row
from benchmarks.workbench import Workbench
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.validation import to_yaml
from dynrcnn_ray.report.figures import figures_of
from dynrcnn_ray.report.html.page import draw_html_report, read_trials
from dynrcnn_ray.report.report import draw_report
from dynrcnn_ray.report.tables import build_table, trial_columns
from dynrcnn_ray.store import folds
from dynrcnn_ray.store.metrics import METRICS
from dynrcnn_ray.store.results_store import ResultStore

MANY = 10_000
_TENTH = 10
_LABELS = ({"DLA": "", "DSL": ""}, {"DLA": "", "DSL": "✓"}, {"DLA": "✓", "DSL": ""}, {"DLA": "✓", "DSL": "✓"})
_LOGGED_ROWS = 30
_SECONDS = at_most(3, "seconds")
# Ten times the trials may take ten times as long, and a quarter more.
_LINEAR = at_most(1.25)
_ANSWER_SECONDS = 0.03
"""After which the object store answers."""
_SECONDS_ON_S3 = at_most(20, "seconds")


def measure_store(bench: Workbench, rounds: int, many: int = MANY) -> Iterator[Row]:
    """Generated stores of 1,000 and 10,000 trials, each a Table 3 of four rows."""
    small, large = (ResultStore.open(bench.scratch / f"store_{count}") for count in (many // _TENTH, many))
    fill(small, many // _TENTH)
    writing = timed(lambda: fill(large, many))()
    yield stated_row("store.write", f"writing the rows and dynamics of {many} trials", writing, "seconds")
    # A fold leaves out what was written just before it.
    time.sleep(folds.SETTLED_SECONDS)
    folding = timed(large.fold)()
    small.fold()
    yield stated_row(
        "store.fold", f"the first fold of {many} trials, which the next report needs not do", folding, "seconds"
    )
    for name, run in _TASKS.items():
        result = paired(timed(lambda run=run: run(large)), timed(lambda run=run: run(small)), rounds=rounds, warm_up=0)
        yield stated_row(
            f"store.{name}", f"{name} of {many} trials", _median(result.a), "seconds", rounds=rounds, must=_SECONDS
        )
        result.a[:] /= _TENTH
        yield compared_row(
            f"store.{name}.linear",
            f"{name}: a tenth of the time with {many} trials",
            f"the time with {many // _TENTH} trials",
            result,
            "seconds",
            must=_LINEAR,
        )
    if importlib.util.find_spec("moto"):
        yield from _measure_on_s3(Path(large.files.root), many)


def _measure_on_s3(folder: Path, many: int) -> Iterator[Row]:
    with _slow_s3(folder) as (uri, server_seconds):
        store = ResultStore.open(uri)
        time.sleep(folds.SETTLED_SECONDS)
        for name, run in {"fold": ResultStore.fold, **_TASKS}.items():
            before = server_seconds()
            seconds = timed(lambda run=run: run(store))()
            yield stated_row(
                f"store.s3_{name}",
                f"{name} of {many} trials on S3, {1000 * _ANSWER_SECONDS:g} ms an answer",
                seconds,
                "seconds",
                must=_SECONDS_ON_S3 if name in _TASKS else None,
                note=f"moto's server on the same machine, whose CPU time is {server_seconds() - before:.1f} s of it",
            )


@contextlib.contextmanager
def _slow_s3(folder: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """The folder as an object store: its URI, and the CPU seconds of its server so far (Linux)."""
    command = [sys.executable, "-m", "benchmarks.slow_s3", str(folder), str(_ANSWER_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
            yield (
                # The server takes any keys; pyarrow wants some.
                f"s3://key:secret@bucket?endpoint_override={endpoint}&region=us-east-1",
                lambda: read_process(server.pid).cpu_seconds,
            )
        finally:
            server.terminate()


def fill(store: ResultStore, count: int) -> None:
    """Write so many finished trials with their dynamics, and the plan of a table that shows them all."""
    config = to_yaml(base_config("mini"))
    plan = []
    for index in range(count):
        row, seed = index % len(_LABELS), index // len(_LABELS)
        trial_id = f"{index:012x}"
        store.write_dynamics(trial_id, _dynamics(index))
        store.write_trial(_trial(trial_id, seed, index, config))
        plan.append(_plan(row, seed, trial_id))
    store.write_plan("table3", sorted(plan, key=lambda line: line["row"]))


def _table(store: ResultStore) -> pd.DataFrame:
    plan = store.plan("table3")
    assert plan is not None, "the plan was written above"
    return build_table(plan, store.trials(plan["trial_id"].dropna(), trial_columns(plan)))


def _report(store: ResultStore) -> None:
    """As the command `report` does it."""
    store = store.fold()
    trials = read_trials(store)
    drawn = draw_report(store, "table3", figures_of("", "table3"), trials)
    draw_html_report(store, trials, (), {"table3": drawn})


_TASKS: dict[str, Callable[[ResultStore], object]] = {
    "listing": ResultStore.finished_trials,
    "table": _table,
    "report": _report,
}


def _trial(trial_id: str, seed: int, index: int, config: str) -> dict[str, Any]:
    return {
        "trial_id": trial_id,
        "experiment": "table3",
        "setting": "generated",
        "seed": seed,
        "scale": "mini",
        "status": "finished",
        **{metric: 50 + 10 * math.sin(index + place) for place, metric in enumerate(METRICS)},
        "num_workers": 1,
        "config": config,
        "finished_at": datetime.now(UTC),
    }


def _dynamics(index: int) -> list[dict[str, Any]]:
    """Curves that rise and fall as in training."""
    return [
        {
            "step": 20 * (place + 1),
            "T_now": 0.4 + 0.3 * place / _LOGGED_ROWS + 0.01 * math.sin(index),
            "beta_now": 1 - 0.6 * place / _LOGGED_ROWS,
            "iou_threshold": 0.5,
            "smooth_l1_beta": 1.0,
            "loss": 2.0,
            "positives": 10.0,
            "positives_iou50": 40.0,
        }
        for place in range(_LOGGED_ROWS)
    ]


def _plan(row: int, seed: int, trial_id: str) -> dict[str, Any]:
    return {
        "title": "Generated trials",
        "anchor": "Table 3",
        "row": row,
        "labels": _LABELS[row],
        "seed": seed,
        "trial_id": trial_id,
        "reported": {},
        "metrics": list(METRICS),
        "baseline_row": 0,
        "scale": "mini",
        "command": "python experiments/main.py benchmark",
    }


def _median(values: Any) -> float:
    return float(pd.Series(values).median())
