"""Where trials fail: a section of a store's page, with tables, and precision over recall."""

import itertools
from typing import Any

import pandas as pd

from dynrcnn_ray.report.html.charts import Chart, line_chart
from dynrcnn_ray.report.html.sections import Section, command_for, section
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.inspect.inspection import Inspection, inspected_trials, read_inspection
from dynrcnn_ray.tools.inspect.inspection_tables import TextTable, class_table, confusion_table, error_table

_MOST_CLASSES = 30
"""Above it the confusion matrix is too wide for a page."""


def page_section(store: ResultStore, trials: pd.DataFrame) -> list[Section]:
    """The section of the trials that were inspected; none where none was.

    Args:
        store: where to read.
        trials: rows as in `schemas.TRIALS` of all trials.

    Raises:
        StoreError: an inspection cannot be read.
    """
    settings = dict(zip(trials["trial_id"], trials["setting"], strict=True))
    shown = [
        {
            "trial_id": trial_id,
            "name": f"Trial {trial_id}: {settings[trial_id]}",
            "command": command_for(store, "inspect", trial_id),
            "tables": _tables_of(found),
            "curves": _curves_of(found),
        }
        for trial_id in inspected_trials(store)
        if trial_id in settings and (found := read_inspection(store, trial_id))
    ]
    if not shown:
        return []
    return [
        section("inspections", "inspections.html", "Where trials fail", package=__package__ or "", inspections=shown)
    ]


def _tables_of(inspection: Inspection) -> list[TextTable]:
    """The tables of one trial; of very many classes without the confusion matrix."""
    tables = [class_table(inspection.classes), error_table(inspection.errors)]
    if len(inspection.classes) <= _MOST_CLASSES:
        tables.append(confusion_table(inspection.classes, inspection.errors))
    return tables


def _curves_of(inspection: Inspection) -> list[Chart]:
    """Precision over recall at IoU 0.5, a chart for each class that has objects."""
    charts = [_curve(row) for row in inspection.classes if row["precision"] is not None]
    return list(itertools.islice(filter(None, charts), _MOST_CLASSES))


def _curve(row: dict[str, Any]) -> Chart | None:
    precision: list[float] = row["precision"]
    recalls = [100 * at / (len(precision) - 1) for at in range(len(precision))]
    return line_chart(row["name"], recalls, {"precision": precision}, unit="recall", top=100.0)
