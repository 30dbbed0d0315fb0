"""The store is plain Parquet: pandas, pyarrow.dataset and DuckDB read it with no code of ours (docs/storage.md)."""

import re
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from dynrcnn_ray.store import schemas

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "storage.md"


@pytest.fixture
def folder(table3_store, tmp_path) -> Path:
    return tmp_path / "storage"


def test_three_readers_agree(folder: Path):
    with_pandas = pd.read_parquet(folder / "trials").groupby("setting")["AP90"].mean()
    with_pyarrow = ds.dataset(folder / "trials").to_table(columns=["setting", "AP90"]).to_pandas()
    query = f"SELECT setting, avg(AP90) AS AP90 FROM '{folder}/trials/*.parquet' GROUP BY setting"
    with_duckdb = duckdb.sql(query).df().set_index("setting")["AP90"]
    assert len(with_pandas) > 0
    assert with_pandas.to_dict() == with_pyarrow.groupby("setting")["AP90"].mean().to_dict()
    assert with_pandas.to_dict() == pytest.approx(with_duckdb.to_dict())


def test_the_lines_of_the_guide_run(folder: Path, capsys):
    (code,) = re.findall(r"```python\n(import duckdb.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    exec(code.replace("/home/me/dynrcnn_ray/mini", str(folder)), {})
    assert "AP90" in capsys.readouterr().out
    assert len(code.strip().splitlines()) == 5


def test_units_travel_with_the_files(folder: Path):
    for file in (folder / "trials").iterdir():
        assert pq.read_schema(file).field("train_seconds").metadata[b"unit"] == b"seconds"
    for schema in (schemas.DETECTIONS, schemas.PROPOSALS, schemas.IMAGES, schemas.SPEED):
        assert all(field.metadata[b"unit"] for field in schema)
