"""The page: verdicts on the claims, every experiment in the paper's order, pictures of detections, every trial."""

import base64
from datetime import UTC, datetime
from html import escape
from importlib import resources
from typing import Any

import pandas as pd

from dynrcnn_ray.results.finding_table import FINDINGS, FINDINGS_FILE, finding_cells
from dynrcnn_ray.results.html.pictures import pictures_html
from dynrcnn_ray.results.html.tables import grid_html, table_html
from dynrcnn_ray.results.html.trials import COMPACT, MOST_WITH_DETAILS, trials_html
from dynrcnn_ray.results.labels import row_label
from dynrcnn_ray.results.report import figure_names, is_figure, table_of
from dynrcnn_ray.results.schemas import SPEED, TRIALS
from dynrcnn_ray.results.speed_table import SPEED_FILE, SPEED_TITLE, speed_grid, speed_note
from dynrcnn_ray.results.store import ResultStore
from dynrcnn_ray.results.table_cells import make_cells
from dynrcnn_ray.results.tables import trial_columns

REPORT_FILE = "report.html"
_LARGEST_SVG = 400_000
"""Bytes; a figure with more, such as a cloud of points, is shown as PNG."""
_SUSPICIOUS_T_NOW = 0.8
_OF_THE_PAGE = ("scale", "git_commit", "steps", "config")
"""Fields of the trials that the page shows or needs besides those of tables and of the list of trials."""


def read_trials(store: ResultStore) -> pd.DataFrame:
    """All trials of a store, also those that run, with what its tables and its page show of them.

    Returns:
        Rows as in `schemas.TRIALS`; of very many trials only the fields that are shown.

    Raises:
        StoreError: the store cannot be read.
    """
    if len(store.trial_ids()) <= MOST_WITH_DETAILS:
        return store.trials_so_far()
    shown = {*COMPACT, *_OF_THE_PAGE}
    for name in store.experiments():
        plan = store.plan(name)
        if plan is not None and len(plan):
            shown.update(trial_columns(plan))
    return store.trials_so_far(columns=[name for name in TRIALS.names if name in shown])


def draw_html_report(store: ResultStore, trials: pd.DataFrame) -> str:
    """Write `report.html`: one page that needs no other file, from the store alone.

    The tables' and figures' own files must have been drawn before.

    Args:
        store: where to read and write.
        trials: all its trials, from `read_trials`.

    Returns:
        Its absolute path or URI.

    Raises:
        StoreError: the store cannot be read or written.
    """
    experiments = sorted(store.experiments(), key=_order)
    plans = {name: plan for name in experiments if (plan := store.plan(name)) is not None}
    sections = {name: _experiment_html(store, name, plan, trials) for name, plan in plans.items()}
    if speed := _speed_html(store):
        sections["table7"] = speed
    findings = _findings_html(store)
    ordered = {"findings": findings} if findings else {}
    ordered |= dict(sorted(sections.items(), key=lambda item: _order(item[0])))
    if pictures := _pictures_section(store, plans, trials):
        ordered["detections"] = pictures
    ordered["trials"] = _trials_section(store, plans, trials)
    store.files.write_bytes(REPORT_FILE, _page(ordered, trials).encode())
    return store.files.describe_path(REPORT_FILE)


def _order(name: str) -> tuple[int, str]:
    kinds = ("table", "figure")
    return next((index for index, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name


def _page(sections: dict[str, str], trials: pd.DataFrame) -> str:
    style = resources.files("dynrcnn_ray.results.html").joinpath("style.css").read_text()
    links = "".join(f'<li><a href="#{escape(name)}">{escape(_short_title(name))}</a></li>' for name in sections)
    body = "\n".join(f'<section id="{escape(name)}">{content}</section>' for name, content in sections.items())
    counts = trials["status"].value_counts()
    commits = ", ".join(sorted(set(trials["git_commit"].dropna()))) or "unknown"
    summary = (
        f"{counts.get('finished', 0)} finished trials, {counts.get('failed', 0)} failed, "
        f"{counts.get('running', 0)} running; scale "
        f"{', '.join(sorted(set(trials['scale']))) or 'none'}; made by commit {commits}; drawn "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dynamic R-CNN: results</title>
<style>
{style}</style>
</head>
<body>
<div class="page">
<nav aria-label="Contents"><details open><summary>Contents</summary><ul>{links}</ul></details></nav>
<main>
<header>
<h1>Dynamic R-CNN: results</h1>
<p class="soft">{escape(summary)}</p>
<p>Tinted lines named <em>paper</em> are the paper's own numbers, on COCO. All other numbers were measured at the scale
named. Compare the differences between rows with the paper's differences.</p>
</header>
{body}
</main>
</div>
</body>
</html>
"""


def _short_title(name: str) -> str:
    for kind in ("table", "figure"):
        if name.startswith(kind):
            return f"{kind.title()} {name.removeprefix(kind).replace('_', ', ')}"
    return name.replace("train_", "Trial ") if name.startswith("train_") else name.title()


def _experiment_html(store: ResultStore, name: str, plan: pd.DataFrame, trials: pd.DataFrame) -> str:
    if plan.empty:
        return f"<h2>{escape(_short_title(name))}</h2>{_figure_html(store, name)}"
    title = f"{plan['anchor'].iloc[0]}. {plan['title'].iloc[0]}"
    own = trials.loc[trials["trial_id"].isin(plan["trial_id"].dropna()), :]
    parts = [f"<h2>{escape(title)}</h2>"]
    if is_figure(name):
        parts.append(_figure_html(store, name))
    else:
        parts.append(table_html(make_cells(table_of(store, plan, own), plan)))
        parts += [f'<p class="warning">{escape(text)}</p>' for text in _warnings(store, own)]
        parts += [_figure_html(store, figure) for figure in figure_names(name)]
        parts += [f'<p class="soft">This table as a file: {_files_html(name)}</p>']
    parts.append(f'<pre class="command">{escape(plan["command"].iloc[0])}</pre>')
    return "\n".join(parts)


def _figure_html(store: ResultStore, name: str) -> str:
    for kind, media in (("svg", "svg+xml"), ("png", "png")):
        content = store.files.read_bytes(f"figures/{name}.{kind}")
        if content is not None and (kind == "png" or len(content) <= _LARGEST_SVG):
            data = base64.b64encode(content).decode()
            return f'<img class="figure" alt="{escape(_short_title(name))}" src="data:image/{media};base64,{data}">'
    return '<p class="soft">No finished trial has recorded what the figure shows.</p>'


def _warnings(store: ResultStore, trials: pd.DataFrame) -> list[str]:
    """What Algorithm 1 had nothing to measure, and thresholds that left few positives: both follow from the data."""
    texts = []
    finished = trials.loc[trials["status"] == "finished", :]
    if len(finished) > MOST_WITH_DETAILS:
        return []
    dynamic = [store.config_of(row).dynamic for row in finished.to_dict("records")]
    intervals = pd.Series([section.update_interval for section in dynamic], index=finished.index, dtype=float)
    with_dla = pd.Series([section.dla for section in dynamic], index=finished.index, dtype=bool)
    kept = finished[finished["kept_beta_updates"] * 2 > finished["steps"] / intervals]
    if len(kept):
        texts.append(
            f"In {len(kept)} of {len(finished)} trials most updates of beta_now found nothing to measure and kept the "
            "old value: most images hold K_beta objects or more, whose appended ground truths have an error of zero. "
            "Raise dynamic.beta_top_k."
        )
    high = finished[with_dla & (finished["final_T_now"] > _SUSPICIOUS_T_NOW)]
    if len(high):
        texts.append(
            f"In {len(high)} trials with DLA T_now ended above {_SUSPICIOUS_T_NOW}: most images hold nearly K_I "
            "objects, whose appended ground truths have an IoU of one, and few other positives are left. Raise "
            "dynamic.iou_top_k."
        )
    return texts


def _findings_html(store: ResultStore) -> str:
    table = store.read_table(FINDINGS_FILE, FINDINGS)
    if table is None:
        return ""
    cells = finding_cells(table.to_pylist())
    return "\n".join(
        [
            f"<h2>{escape(cells.anchor)}</h2>",
            f"<p>{escape(cells.grids[0].title)}.</p>",
            table_html(cells),
            f'<p class="soft">These findings as a file: {_files_html("findings")}</p>',
            f'<pre class="command">{escape(cells.command)}</pre>',
        ]
    )


def _files_html(name: str) -> str:
    return " · ".join(f'<a href="tables/{name}.{kind}">{kind}</a>' for kind in ("md", "tex", "parquet"))


def _speed_html(store: ResultStore) -> str:
    table = store.read_table(SPEED_FILE, SPEED)
    if table is None:
        return ""
    rows: list[dict[str, Any]] = table.to_pylist()
    return (
        f"<h2>{escape(SPEED_TITLE)}</h2>{grid_html(speed_grid(rows))}"
        f'<p class="soft">{escape(speed_note(rows))}</p><pre class="command">python experiments/main.py table7</pre>'
    )


def _pictures_section(store: ResultStore, plans: dict[str, pd.DataFrame], trials: pd.DataFrame) -> str:
    """Pictures for the first table that has a baseline and a better row, else for the best trial."""
    chosen = _trials_to_picture(plans, trials)
    if not chosen:
        return ""
    first = trials.loc[trials["trial_id"] == next(iter(chosen.values())), :].to_dict("records")[0]
    images = store.images(store.config_of(first).data.fingerprint)
    detections = {name: store.detections([trial_id]) for name, trial_id in chosen.items()}
    detections = {name: found for name, found in detections.items() if len(found)}
    if images.empty or not detections:
        return ""
    return f"<h2>Detections on validation images</h2>{pictures_html(images.head(4), detections)}"


def _trials_to_picture(plans: dict[str, pd.DataFrame], trials: pd.DataFrame) -> dict[str, str]:
    finished = {row["trial_id"]: row for row in trials.to_dict("records") if row["status"] == "finished"}
    for plan in sorted(plans.values(), key=_has_dynamic_components, reverse=True):
        lines = [line for line in plan.to_dict("records") if line["trial_id"] in finished]
        for seed in sorted({line["seed"] for line in lines}):
            of_seed = [line for line in lines if line["seed"] == seed]
            baselines = [line for line in of_seed if line["row"] == line["baseline_row"]]
            others = [line for line in of_seed if line["row"] != line["baseline_row"]]
            if baselines and others:
                best = max(others, key=lambda line: finished[line["trial_id"]]["AP"])
                return {_name_of_line(line): line["trial_id"] for line in (baselines[0], best)}
    if not finished:
        return {}
    best = max(finished, key=lambda trial: finished[trial]["AP"])
    return {str(finished[best]["setting"]): best}


def _name_of_line(line: dict[Any, Any]) -> str:
    labels = {name: cell for name, cell in dict(line["labels"]).items() if name != "Backbone"}
    return f"{row_label(labels)}, seed {line['seed']:g}"


def _has_dynamic_components(plan: pd.DataFrame) -> bool:
    """Whether it is Table 3, whose rows are the components' own."""
    return any("DLA" in dict(labels) for labels in plan["labels"])


def _trials_section(store: ResultStore, plans: dict[str, pd.DataFrame], trials: pd.DataFrame) -> str:
    belongs_to: dict[str, list[str]] = {}
    for name, plan in plans.items():
        for line in plan.dropna(subset=["trial_id"]).to_dict("records"):
            cells = [cell for cell in dict(line["labels"]).values() if cell]
            belongs_to.setdefault(line["trial_id"], []).append(f"{_short_title(name)} ({', '.join(cells)})")
    few = len(trials) <= MOST_WITH_DETAILS
    dynamics = store.dynamics(trials["trial_id"] if few else ())
    return f"<h2>Trials</h2>{trials_html(trials, dynamics, belongs_to)}"
