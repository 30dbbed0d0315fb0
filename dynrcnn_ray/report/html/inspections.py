"""Where trials fail, for the page: tables, and precision over recall."""

import itertools
from typing import Any

from dynrcnn_ray.report.html.charts import Chart, line_chart
from dynrcnn_ray.report.inspection import Inspection
from dynrcnn_ray.report.inspection_tables import TextTable, class_table, confusion_table, error_table

_MOST_CLASSES = 30
"""Above it the confusion matrix is too wide for a page."""


def tables_of(inspection: Inspection) -> list[TextTable]:
    """The tables of one trial; of very many classes without the confusion matrix."""
    tables = [class_table(inspection.classes), error_table(inspection.errors)]
    if len(inspection.classes) <= _MOST_CLASSES:
        tables.append(confusion_table(inspection.classes, inspection.errors))
    return tables


def curves_of(inspection: Inspection) -> list[Chart]:
    """Precision over recall at IoU 0.5, a chart for each class that has objects."""
    charts = [_curve(row) for row in inspection.classes if row["precision"] is not None]
    return list(itertools.islice(filter(None, charts), _MOST_CLASSES))


def _curve(row: dict[str, Any]) -> Chart | None:
    precision: list[float] = row["precision"]
    recalls = [100 * at / (len(precision) - 1) for at in range(len(precision))]
    return line_chart(row["name"], recalls, {"precision": precision}, unit="recall", top=100.0)
