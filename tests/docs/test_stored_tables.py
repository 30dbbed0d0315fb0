"""The tables of the reference results are what today's code makes of their rows."""

from pathlib import Path

import pandas as pd
import pytest

from dynrcnn_ray.commands.judged import claims_with_numbers
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE, finding_cells, findings_parquet
from dynrcnn_ray.report.findings import judge
from dynrcnn_ray.report.html.page import read_trials
from dynrcnn_ray.report.report import is_figure, table_of
from dynrcnn_ray.report.table_latex import cells_to_latex, table_to_latex
from dynrcnn_ray.report.table_text import cells_to_markdown, table_to_markdown
from dynrcnn_ray.store.parquet import from_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore

REFERENCES = Path(__file__).parents[2] / "experiments"
STORES = sorted(folder.parent.name for folder in REFERENCES.glob("reference_*/plans"))


@pytest.mark.parametrize("name", STORES)
def test_stored_tables_are_those_of_today(name: str):
    store = ResultStore.open(REFERENCES / name)
    for experiment in store.experiments():
        plan = store.plan(experiment)
        assert plan is not None
        if is_figure(plan):
            continue
        table = table_of(store, plan, store.trials_so_far(plan["trial_id"].dropna()))
        written = REFERENCES / name / "tables" / experiment
        assert written.with_suffix(".md").read_text() == table_to_markdown(table, plan), experiment
        assert written.with_suffix(".tex").read_text() == table_to_latex(table, plan), experiment


@pytest.mark.parametrize("name", [name for name in STORES if (REFERENCES / name / FINDINGS_FILE).is_file()])
def test_stored_verdicts_are_those_of_today(name: str):
    store = ResultStore.open(REFERENCES / name)
    command = pd.read_parquet(REFERENCES / name / FINDINGS_FILE)["command"].iloc[0]
    judged = judge(*claims_with_numbers(store, read_trials(store)))
    cells = finding_cells(from_parquet_bytes(findings_parquet(judged, command, 0), FINDINGS).to_pylist())
    tables = REFERENCES / name / "tables"
    assert (tables / "findings.md").read_text() == cells_to_markdown(cells)
    assert (tables / "findings.tex").read_text() == cells_to_latex(cells)
