"""The paper's claims out of lines that name its rows, and how their contrasts are shown."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.experiment.experiment import Experiment, Row
from dynrcnn_ray.report.claim_lines import read_line
from dynrcnn_ray.report.claim_rows import ClaimRow, RowNames
from dynrcnn_ray.report.findings import Claim
from dynrcnn_ray.report.stated_claims import stated_claims


@functools.cache
def rows_of_paper(experiment: Experiment) -> tuple[Row, ...]:
    """The rows at scale `coco`, the paper's own."""
    return tuple(experiment.rows(base_config("coco")))


def place_of(experiment: Experiment) -> str:
    """Where the paper makes the claims of a table or figure, and what is shown there."""
    return f"{experiment.reference}. {experiment.title}"


def claims_of(experiment: Experiment, *given: Mapping[str, str]) -> list[Claim]:
    """The claims that an experiment's table or figure makes, as `stated_claims` takes them."""
    rows = [ClaimRow(row.labels, row.reported, row.metric_prefix) for row in rows_of_paper(experiment)]
    names = RowNames.of_table(rows)
    return [
        Claim(experiment.name, place_of(experiment), each.words, read_line(each.line, names).contrasts, each.line)
        for each in stated_claims(given)
    ]


def shown_as(claim: Claim, texts: Sequence[str] = (), metrics: Sequence[str] = ()) -> Claim:
    """The same claim with shorter names for what its contrasts compare, and for their metrics; none: as they are."""
    texts = texts or [contrast.text for contrast in claim.contrasts]
    metrics = metrics or [contrast.metric for contrast in claim.contrasts]
    contrasts = (
        dataclasses.replace(contrast, text=text, metric=metric)
        for contrast, text, metric in zip(claim.contrasts, texts, metrics, strict=True)
    )
    return dataclasses.replace(claim, contrasts=tuple(contrasts))


def change(name: str) -> str:
    """What a field of the dynamics, or a number like it, gains from early to late in the training."""
    return f"late {name} - early {name}"
