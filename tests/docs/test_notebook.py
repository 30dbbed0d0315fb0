"""The notebook that reads a store runs from its first cell to its last, on the committed reference."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    matplotlib.use("Agg")
    monkeypatch.chdir(DOCS)
    names: dict[str, Any] = {}
    for cell in json.loads((DOCS / "read_a_store.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    out = capsys.readouterr().out
    assert "baseline" in out
    assert "{b'unit': b'seconds'}" in out
    assert names["summary"].loc["DLA + DSL", ("AP", "count")] == names["table"]["n"].iloc[-1]
    assert len(names["axes"][0].lines) == 4
