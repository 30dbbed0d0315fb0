"""What the paper's claims are made of: rows known by the paper's labels, and contrasts of them."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.experiment.experiment import Experiment, Row
from dynrcnn_ray.report.findings import Contrast, Finding, Term
from dynrcnn_ray.store.labels import row_label
from dynrcnn_ray.store.schemas import DYNAMICS

_NAMES = {
    **{f"positives_iou{level}": "proposals/image" for level in range(50, 100, 10)},
    "iou_at_rank": "IoU",
    "error_at_rank": "error",
    "sigma_dx": "sigma of dx",
    "sigma_dw": "sigma of dw",
}
"""Fields of `schemas.DYNAMICS` as a reader knows them."""


@dataclass(frozen=True)
class NamedRow:
    """A row of an experiment.

    Attributes:
        index: its place, by which the store's plans know it.
        name: for people.
        row: with the paper's numbers.
    """

    index: int
    name: str
    row: Row

    def term(self, metric: str, weight: float) -> Term:
        """A metric of the row in a contrast, with the paper's number."""
        return Term(self.index, self.row.metric_prefix + metric, weight, self.row.reported.get(metric, math.nan))


@functools.cache
def rows_of_paper(experiment: Experiment) -> tuple[Row, ...]:
    """The rows at scale `coco`, the paper's own."""
    return tuple(experiment.rows(base_config("coco")))


def named_row(experiment: Experiment, labels: Mapping[str, str]) -> NamedRow:
    """The one row that has these cells in the paper."""
    rows = rows_of_paper(experiment)
    (index,) = (index for index, row in enumerate(rows) if labels.items() <= row.labels.items())
    return NamedRow(index, row_label(labels), rows[index])


def finding(experiment: Experiment, claim: str, *contrasts: Contrast) -> Finding:
    """A claim that an experiment's table or figure makes."""
    return Finding(experiment.name, f"{experiment.reference}. {experiment.title}", claim, contrasts)


def difference(row: NamedRow, other: NamedRow, metric: str, sign: float = 1.0) -> tuple[Term, Term]:
    """The terms of a row's metric minus another row's, times a sign."""
    return row.term(metric, sign), other.term(metric, -sign)


def gains(row: NamedRow, other: NamedRow, metric: str) -> Contrast:
    """The row is better than the other one."""
    return between(row, other, metric, 0.0, math.inf)


def loses(row: NamedRow, other: NamedRow, metric: str) -> Contrast:
    """The row is worse than the other one."""
    return between(row, other, metric, -math.inf, 0.0)


def between(row: NamedRow, other: NamedRow, metric: str, above: float, below: float) -> Contrast:
    """The row's metric minus the other one's lies in a range."""
    text = f"{row.name} against {other.name}"
    return Contrast(text, metric, "percent", difference(row, other, metric), above, below)


def in_order(rows: Sequence[NamedRow], metric: str) -> list[Contrast]:
    """Each row is better than the next."""
    return [gains(row, following, metric) for row, following in itertools.pairwise(rows)]


def in_late_order(rows: Sequence[NamedRow], name: str) -> list[Contrast]:
    """A field of the dynamics ends higher in each row than in the next."""
    return [
        Contrast(
            f"{row.name} against {following.name}",
            f"late {name}",
            unit_of(DYNAMICS, name),
            (Term(row.index, f"late {name}"), Term(following.index, f"late {name}", weight=-1.0)),
        )
        for row, following in itertools.pairwise(rows)
    ]


def rises(row: NamedRow, name: str, text: str) -> Contrast:
    """A field of the dynamics is higher late than early in the training."""
    terms = (Term(row.index, f"late {name}"), Term(row.index, f"early {name}", weight=-1.0))
    return Contrast(text, _NAMES.get(name, name), unit_of(DYNAMICS, name), terms)


def falls(row: NamedRow, name: str, text: str) -> Contrast:
    """A field of the dynamics is lower late than early in the training."""
    rise = rises(row, name, text)
    return Contrast(rise.text, rise.metric, rise.unit, rise.terms, above=-math.inf, below=0.0)


def unit_of(schema: pa.Schema, name: str) -> str:
    """The unit of a field of the store."""
    return schema.field(name).metadata[b"unit"].decode()
