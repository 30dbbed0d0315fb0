"""The notebook that reads a store runs from its first cell to its last, on every committed store."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
STORES = sorted(folder.parent for folder in (DOCS.parent / "experiments").glob("reference_*/trials"))


def notebook() -> dict[str, Any]:
    return json.loads((DOCS / "read_a_store.ipynb").read_text())


def run(store: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    matplotlib.use("Agg")
    monkeypatch.chdir(DOCS)
    names: dict[str, Any] = {}
    for cell in notebook()["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            names["STORE"] = store
    return names


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    names = run(Path("../experiments/reference_mini"), monkeypatch)
    out = capsys.readouterr().out
    assert "baseline" in out
    assert "{b'unit': b'seconds'}" in out
    assert names["summary"].loc["DLA + DSL", ("AP", "count")] == names["table"]["n"].iloc[-1]
    assert len(names["axes"][0].lines) == 4


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
@pytest.mark.parametrize("with_table3", [True, False])
def test_it_reads_other_stores(store: Path, with_table3: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / "store"
    (copy / "plans").mkdir(parents=True)
    for folder in store.iterdir():
        if folder.is_dir() and folder.name != "plans":
            (copy / folder.name).symlink_to(folder)
    for plan in (store / "plans").iterdir():
        if with_table3 or plan.stem != "table3":
            (copy / "plans" / plan.name).symlink_to(plan)
    if not any((copy / "plans").iterdir()):
        pytest.skip("it holds Table 3 alone")
    names = run(copy, monkeypatch)
    assert (names["EXPERIMENT"] == "table3") == ((copy / "plans" / "table3.parquet").exists())
    assert len(names["summary"])


def test_cells_have_ids_as_the_format_demands():
    read = notebook()
    ids = [cell.get("id", "") for cell in read["cells"]]
    assert (read["nbformat"], read["nbformat_minor"]) >= (4, 5)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for each in ids)
