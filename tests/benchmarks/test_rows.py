"""The schema, what a line must reach, the Markdown, and the file that a stopped run leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from benchmarks.benchmark import PARQUET_FILE, write_rows
from benchmarks.command import COMMAND, NAMES, ON_THE_GPU
from benchmarks.markdown import benchmarks_markdown, number, row_line
from benchmarks.paired import Paired
from benchmarks.schema import BENCHMARKS, Must, at_least, at_most, compared_row, stated_row
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training import environment
from tests.cli.calls import call


def made_row(name: str = "store.table", ratios: tuple[float, ...] = (1.0, 1.2, 1.1), must: Must | None = None) -> Any:
    result = Paired(np.array(ratios) * 2, np.full(len(ratios), 2.0))
    return compared_row(name, "left", "right", result, "seconds", must=must, note="made up") | {"commit": "abc"}


@pytest.mark.parametrize(
    ("must", "interval", "reached"),
    [
        (at_most(1.01), (0.98, 1.005), True),
        (at_most(1.01), (0.98, 1.02), None),
        (at_most(1.01), (1.02, 1.03), False),
        (at_least(1.3), (1.31, 2.0), True),
        (at_least(1.3), (1.2, 1.31), None),
        (at_least(1.3), (1.0, 1.29), False),
        (Must("both", low=0.98, high=1.02), (0.97, 1.03), None),
        (Must("both", low=0.98, high=1.02), (0.99, 1.01), True),
    ],
)
def test_reached_is_reported_only_where_the_whole_interval_agrees(must: Must, interval, reached):
    assert must.reached(*interval) is reached


def test_rows_fit_the_schema_and_say_what_they_compare():
    compared = made_row(must=at_most(1.3))
    stated = stated_row("store.table", "seconds of a table", 3.0, "seconds", must=at_most(2, "seconds"))
    table = pa.Table.from_pylist([compared, stated | {"commit": "abc"}], schema=BENCHMARKS)
    first, second = table.to_pylist()
    assert set(compared) <= set(BENCHMARKS.names)
    assert first["ratio"] == pytest.approx(1.1)
    assert (first["median_a"], first["median_b"]) == pytest.approx((2.2, 2.0))
    assert first["ratio_lower_quartile"] == pytest.approx(1.05)
    assert (first["interval_low"], first["interval_high"]) == pytest.approx((1.0, 1.2))
    assert first["reached"] is True
    assert first["rounds"] == 3
    assert second["reached"] is False
    assert second["ratio"] is None
    assert second["compared_with"] is None
    assert all(b"unit" in field.metadata for field in BENCHMARKS)


def test_markdown_shows_ratio_interval_and_verdict():
    rows = [made_row(must=at_most(1.15)), made_row(must=at_most(0.5)), made_row()]
    text = benchmarks_markdown(rows)
    lines = [line for line in text.splitlines() if line.startswith("| left")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:3] == ["left", "right", "1.1 x"]
    assert cells[0][4:7] == ["1 to 1.2", "at most 1.15 x", "undecided"]
    assert cells[1][6] == "no"
    assert cells[2][5:7] == ["", ""]
    assert "made up" in text
    assert "commit abc" in text
    assert "undecided" in row_line(rows[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.00412, "1.004"), (0.0123, "0.012"), (0.000123, "0.00012"), (43210.4, "43210"), (0.6112, "0.6112")],
)
def test_numbers_keep_what_counts(value: float, text: str):
    assert number(value) == text


def test_a_later_run_replaces_its_own_lines_alone(tmp_path: Path):
    store = ResultStore.open(tmp_path)
    write_rows(store, "store", [made_row("store.table")])
    write_rows(store, "memory", [made_row("memory.growth")])
    write_rows(store, "store", [made_row("store.listing", (2.0, 2.0)), made_row("store.table", (3.0, 3.0))])
    table = pd.read_parquet(tmp_path / "tables" / "benchmarks.parquet")
    assert list(table["name"]) == ["memory.growth", "store.listing", "store.table"]
    assert list(table["ratio"]) == pytest.approx([1.1, 2.0, 3.0])
    assert (tmp_path / "tables" / "benchmarks.md").read_text().count("| left") == 3
    lines = json.loads((tmp_path / "tables" / "benchmarks.json").read_text())
    assert [(line["name"], line["ratio"], line["hardware"]) for line in lines] == [
        (row["name"], row["ratio"], row["hardware"]) for row in store.read_table(PARQUET_FILE, BENCHMARKS).to_pylist()
    ]


def test_a_foreign_table_is_not_overwritten(tmp_path: Path):
    (tmp_path / "tables").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "tables" / "benchmarks.parquet")
    with pytest.raises(StoreError, match="was not written by dynrcnn_ray"):
        write_rows(ResultStore.open(tmp_path), "store", [made_row()])


def test_dry_run_estimates_every_benchmark(capsys: pytest.CaptureFixture[str]):
    assert call(COMMAND, "--dry-run") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert out.count("minutes") == len(NAMES) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "speed"], "--only: 'speed' is no benchmark; allowed: training_step"),
        (["--rounds", "-1"], "--rounds: -1 must be 0 or greater"),
    ],
)
def test_mistakes_are_refused_in_one_line(arguments: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        call(COMMAND, *arguments)


def test_on_a_gpu_only_what_uses_it_is_measured(capsys):
    assert call(COMMAND, "--device", "cuda", "--dry-run") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(ON_THE_GPU)
    with pytest.raises(ConfigError, match="--only: 'store' has no part on a GPU; with --device cuda: training_step, "):
        call(COMMAND, "--device", "cuda", "--only", "store")


def test_a_gpu_that_cannot_be_used_is_reported_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(environment, "driver_cuda_version", lambda: None)
    with pytest.raises(environment.DeviceError, match=r"no NVIDIA driver answers here|is built without CUDA"):
        call(COMMAND, "--device", "cuda", "--storage", str(tmp_path))
    assert not list(tmp_path.iterdir())
