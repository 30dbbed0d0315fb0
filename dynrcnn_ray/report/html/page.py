"""The page: verdicts on the claims, every experiment in the paper's order, pictures of detections, every trial."""

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE, finding_cells
from dynrcnn_ray.report.html.pictures import MIN_SCORE, pictures_of
from dynrcnn_ray.report.html.sections import MakeSections, Section, command_for, in_order, section, short_title
from dynrcnn_ray.report.html.trials import COMPACT, MOST_WITH_DETAILS, compact_trials, trials_in_detail
from dynrcnn_ray.report.report import DrawnReport, is_figure, table_of
from dynrcnn_ray.report.table_cells import make_cells
from dynrcnn_ray.report.tables import trial_columns
from dynrcnn_ray.store.explosions import explosions
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.labels import row_label
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import TRIALS

REPORT_FILE = "report.html"
_LARGEST_SVG = 400_000
"""Bytes; a figure with more, such as a cloud of points, is shown as PNG."""
_SUSPICIOUS_T_NOW = 0.8
_OF_THE_PAGE = ("scale", "git_commit", "steps", "config", "finished_at")
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


def draw_html_report(
    store: ResultStore,
    trials: pd.DataFrame,
    sections_of_commands: Sequence[MakeSections],
    drawn: Mapping[str, DrawnReport] | None = None,
    renew_seconds: float = 0,
) -> str:
    """Write `report.html`: one page that needs no other file, from the store alone.

    The tables' and figures' own files must have been drawn before.

    Args:
        store: where to read and write.
        trials: all its trials, from `read_trials`.
        sections_of_commands: what makes the sections that a program's commands bring, from `Program.page_sections`.
        drawn: experiments that were drawn from the same trials, whose tables need not be built again.
        renew_seconds: an open page loads itself anew after so many seconds; 0: never.

    Returns:
        Its absolute path or URI.

    Raises:
        StoreError: the store cannot be read or written.
    """
    plans = {name: plan for name in store.experiments() if (plan := store.plan(name)) is not None}
    figures = _figures_of(store, plans)
    more = [part for make in sections_of_commands for part in make(store, trials)]
    experiments = [
        _experiment(store, name, plan, trials, figures[name], (drawn or {}).get(name)) for name, plan in plans.items()
    ]
    experiments += [part for part in more if part["is_experiment"]]
    sections = [
        *_findings(store, trials),
        *sorted(experiments, key=in_order),
        *_detections(store, plans, trials),
        *(part for part in more if not part["is_experiment"]),
        _trials(store, plans, trials),
    ]
    page = (
        _templates(sections)
        .get_template("page.html")
        .render(sections=sections, summary=_summary(trials), renew_seconds=renew_seconds)
    )
    store.files.write_bytes(REPORT_FILE, page.encode())
    return store.files.describe_path(REPORT_FILE)


def _templates(sections: Sequence[Section]) -> Environment:
    """The templates of the page and its sections, in which whatever comes from a store is escaped."""
    packages = dict.fromkeys(["dynrcnn_ray.report.html", *(part["package"] for part in sections)])
    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _summary(trials: pd.DataFrame) -> str:
    counts = trials["status"].value_counts()
    commits = ", ".join(sorted(set(trials["git_commit"].dropna()))) or "unknown"
    return (
        f"{counts.get('finished', 0)} finished trials, {counts.get('failed', 0)} failed, "
        f"{counts.get('running', 0)} running, {counts.get('stalled', 0)} stalled; scale "
        f"{', '.join(sorted(set(trials['scale']))) or 'none'}; made by commit {commits}; drawn "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    )


def _figures_of(store: ResultStore, plans: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """The names of each experiment's figures: its own name, names that begin with it, or its trends."""
    drawn = sorted({*store.files.names("figures", ".svg"), *store.files.names("figures", ".png")})
    found: dict[str, list[str]] = {name: [] for name in plans}
    for figure in drawn:
        of_figure = figure.removeprefix("trends_")
        owners = [name for name in plans if of_figure == name or of_figure.startswith(f"{name}_")]
        if owners:
            found[max(owners, key=len)].append(figure)
    return found


def _experiment(
    store: ResultStore,
    name: str,
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    figures: Sequence[str],
    drawn: DrawnReport | None,
) -> Section:
    shown: dict[str, Any] = {"cells": None, "warnings": [], "command": ""}
    title, is_drawn = short_title(name), True
    if not plan.empty:
        title, shown["command"] = f"{plan['anchor'].iloc[0]}. {plan['title'].iloc[0]}", plan["command"].iloc[0]
        own = trials.loc[trials["trial_id"].isin(plan["trial_id"].dropna()), :]
        # Without a finished trial, the stored figures are those of an earlier plan of this name.
        is_drawn = bool((own["status"] == "finished").any())
        if not is_figure(plan):
            table = table_of(store, plan, own) if drawn is None or drawn.numbers is None else drawn.numbers
            shown |= {"cells": make_cells(table, plan), "warnings": _warnings(store, own)}
    # What has not been drawn yet keeps its place.
    shown["figures"] = [_figure(store, figure, is_drawn=is_drawn) for figure in figures or [name]]
    return section(name, "experiment.html", title, is_experiment=True, **shown)


def _figure(store: ResultStore, name: str, *, is_drawn: bool) -> dict[str, str]:
    """A figure's name and content; no content if it was not drawn."""
    for kind, media in (("svg", "svg+xml"), ("png", "png")) if is_drawn else ():
        content = store.files.read_bytes(f"figures/{name}.{kind}")
        if content is not None and (kind == "png" or len(content) <= _LARGEST_SVG):
            data = f"data:image/{media};base64,{base64.b64encode(content).decode()}"
            return {"title": short_title(name), "data": data}
    return {"title": short_title(name), "data": ""}


def _readable(store: ResultStore, row: dict[Any, Any]) -> Trial | None:
    """A trial; None if this release cannot read it: the page then leaves out the warnings about it."""
    try:
        return store.trial_of(row)
    except StoreError:
        return None


def _warnings(store: ResultStore, trials: pd.DataFrame) -> list[str]:
    """Losses that exploded; where Algorithm 1 kept its values, and thresholds that left few positives."""
    texts = []
    finished = trials.loc[trials["status"] == "finished", :]
    if len(finished) > MOST_WITH_DETAILS:
        return []
    texts += [f"Trial {trial_id}: {note}." for trial_id, note in explosions(store, finished["trial_id"]).items()]
    readable = [_readable(store, row) for row in finished.to_dict("records")]
    known = [trial.config.dynamic if trial else None for trial in readable]
    intervals = pd.Series([each.update_interval if each else math.nan for each in known], index=finished.index)
    with_dla = pd.Series([each is not None and each.dla for each in known], index=finished.index, dtype=bool)
    updates = finished["steps"] / intervals
    of_zero = finished[(finished["kept_beta_updates"] - finished["kept_iou_updates"].fillna(0)) * 2 > updates]
    if len(of_zero):
        texts.append(
            f"In {len(of_zero)} of {len(finished)} trials most updates of beta_now kept the old value because the "
            "median error was zero: most images hold K_beta objects or more, whose appended ground truths have an "
            "error of zero. Raise dynamic.beta_top_k."
        )
    unmeasured = finished[finished["kept_iou_updates"] * 2 > updates]
    if len(unmeasured):
        texts.append(
            f"In {len(unmeasured)} of {len(finished)} trials most updates kept T_now and beta_now: no image had a "
            "positive proposal. Check the images and their boxes, or train for longer."
        )
    high = finished[with_dla & (finished["final_T_now"] > _SUSPICIOUS_T_NOW)]
    if len(high):
        texts.append(
            f"In {len(high)} trials with DLA T_now ended above {_SUSPICIOUS_T_NOW}: most images hold nearly K_I "
            "objects, whose appended ground truths have an IoU of one, and few other positives are left. Raise "
            "dynamic.iou_top_k."
        )
    return texts


def _findings(store: ResultStore, trials: pd.DataFrame) -> list[Section]:
    """The verdicts as they were judged last, with a warning if other trials have finished since."""
    table = store.read_table(FINDINGS_FILE, FINDINGS)
    if table is None:
        return []
    rows = table.to_pylist()
    cells = finding_cells(rows)
    judged, finished = rows[0]["finished_trials"], trials["status"].tolist().count("finished")
    warnings = []
    if judged not in (None, finished):
        warnings.append(
            f"These verdicts are of {judged} finished trials, the tables below of {finished}. To judge again: "
            f"{command_for(store, 'findings')}."
        )
    # A store whose claims an earlier release has judged has no figure of them.
    figure, narrow = (_figure(store, name, is_drawn=True) for name in ("findings", "findings_narrow"))
    return [
        section(
            "findings", "findings.html", cells.reference, cells=cells, figure=figure, narrow=narrow, warnings=warnings
        )
    ]


def _detections(store: ResultStore, plans: dict[str, pd.DataFrame], trials: pd.DataFrame) -> list[Section]:
    """Pictures for the first table that has a baseline and a better row, else for the best trial."""
    chosen = _trials_to_picture(plans, trials)
    if not chosen:
        return []
    first = trials.loc[trials["trial_id"] == next(iter(chosen.values())), :].to_dict("records")[0]
    trial = _readable(store, first)
    if trial is None:
        return []
    images = store.images(trial.inputs.data)
    detections = {name: store.detections([trial_id]) for name, trial_id in chosen.items()}
    detections = {name: found for name, found in detections.items() if len(found)}
    if images.empty or not detections:
        return []
    pictures = pictures_of(images.head(4), detections)
    title = "Detections on validation images"
    return [section("detections", "detections.html", title, pictures=pictures, min_score=MIN_SCORE)]


def _trials_to_picture(plans: dict[str, pd.DataFrame], trials: pd.DataFrame) -> dict[str, str]:
    finished = trials.loc[trials["status"] == "finished", ["trial_id", "AP", "setting"]].set_index("trial_id")
    # Where nothing could be found there is no AP.
    average_precision = finished["AP"].fillna(-1)
    for plan in sorted(plans.values(), key=_has_dynamic_components, reverse=True):
        for _, of_seed in plan.loc[plan["trial_id"].isin(finished.index), :].groupby("seed"):
            is_baseline = of_seed["row"] == of_seed["baseline_row"]
            if is_baseline.any() and not is_baseline.all():
                others = of_seed.loc[~is_baseline, :]
                best = average_precision[others["trial_id"]].to_numpy().argmax()
                lines = [of_seed.loc[is_baseline, :].iloc[0].to_dict(), others.iloc[best].to_dict()]
                return {_name_of_line(line): line["trial_id"] for line in lines}
    if finished.empty:
        return {}
    best = average_precision.idxmax()
    return {str(finished.loc[best, "setting"]): str(best)}


def _name_of_line(line: dict[Any, Any]) -> str:
    labels = {name: cell for name, cell in dict(line["labels"]).items() if name != "Backbone"}
    return f"{row_label(labels)}, seed {int(line['seed'])}"


def _has_dynamic_components(plan: pd.DataFrame) -> bool:
    """Whether its rows compare the two components, DLA and DSL."""
    return any("DLA" in dict(labels) for labels in plan["labels"])


def _trials(store: ResultStore, plans: dict[str, pd.DataFrame], trials: pd.DataFrame) -> dict[str, Any]:
    shown: dict[str, Any] = {"trials": [], "compact": [], "columns": COMPACT}
    if len(trials) > MOST_WITH_DETAILS:
        shown["compact"] = compact_trials(trials)
    else:
        belongs_to: dict[str, list[str]] = {}
        for name, plan in plans.items():
            for line in plan.dropna(subset=["trial_id"]).to_dict("records"):
                cells = [cell for cell in dict(line["labels"]).values() if cell]
                belongs_to.setdefault(line["trial_id"], []).append(f"{short_title(name)} ({', '.join(cells)})")
        shown["trials"] = trials_in_detail(trials, store.dynamics(trials["trial_id"]), belongs_to)
    return section("trials", "trials.html", "Trials", **shown)
