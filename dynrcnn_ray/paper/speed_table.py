"""Table 7: images per second of the dynamic and the cascade detectors, as Markdown and Parquet."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from dynrcnn_ray.report.html.sections import Section, command_for, section
from dynrcnn_ray.report.table_cells import Grid, simple_grid
from dynrcnn_ray.report.table_text import simple_markdown
from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import SPEED

SPEED_FILE = "tables/table7.parquet"
SPEED_TITLE = "Table 7, Section 5.5. Training and inference speed of Dynamic against Cascade R-CNN"

_HEADER = (
    "Backbone",
    "Method",
    "training images/s",
    "training time",
    "inference images/s",
    "paper",
    "x cascade",
    "paper x cascade",
)


def read_speeds(store: ResultStore) -> list[dict[str, Any]]:
    """The rows of a store's speeds, as in `schemas.SPEED`; none where nothing was timed.

    Raises:
        StoreError: the file cannot be read.
    """
    table = store.read_table(SPEED_FILE, SPEED)
    return [] if table is None else table.to_pylist()


def speed_section(store: ResultStore, _trials: pd.DataFrame) -> list[Section]:
    """The part of the page that shows a store's speeds, if it has any."""
    rows = read_speeds(store)
    if not rows:
        return []
    shown = {"grid": speed_grid(rows), "note": speed_note(rows), "command": command_for(store, "table7")}
    return [section("table7", "grid.html", SPEED_TITLE, is_experiment=True, **shown)]


def speed_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows of `schemas.SPEED` as a Parquet file's content."""
    return to_parquet_bytes(pa.Table.from_pylist([dict(row) for row in rows], schema=SPEED), SPEED_FILE)


def speed_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table for people: each cascade stands below the dynamic detector that it is compared with."""
    return f"**{SPEED_TITLE}**\n\n{simple_markdown(_HEADER, _lines(rows))}\n\n{speed_note(rows)}\n"


def speed_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """The same cells for another renderer."""
    return simple_grid(SPEED_TITLE, _HEADER, _lines(rows))


def speed_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """How it was measured and what the columns mean."""
    first = rows[0]
    return (
        f"Scale {first['scale']}, {first['hardware']}; one image at a time, medians of {first['rounds']} interleaved "
        "rounds, untrained models with as many detections as they may return. Training time is that of the matching "
        "dynamic detector times the number given; the paper only says that the cascade's is longer. The paper's images "
        "per second are inference on one RTX 2080TI, with ResNet-50-FPN above and ResNet-101-FPN below."
    )


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    by_name = {(row["backbone"], row["model"]): row for row in rows}
    return [_cells(row, by_name) for row in rows]


def _cells(row: Mapping[str, Any], by_name: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    is_dynamic = row["model"].startswith("Dynamic")
    dynamic = by_name[row["backbone"], row["model"].replace("Cascade", "Dynamic")]
    cascade = by_name[row["backbone"], row["model"].replace("Dynamic", "Cascade")]
    inference, paper = "inference_images_per_second", "inference_images_per_second_paper"
    return [
        row["backbone"],
        row["model"],
        f"{row['training_images_per_second']:.2f}",
        f"{dynamic['training_images_per_second'] / row['training_images_per_second']:.2f}",
        f"{row[inference]:.2f}",
        f"{row[paper]:.1f}",
        f"{row[inference] / cascade[inference]:.2f}" if is_dynamic else "-",
        f"{row[paper] / cascade[paper]:.2f}" if is_dynamic else "-",
    ]
