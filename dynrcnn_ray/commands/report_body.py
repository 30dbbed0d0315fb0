"""What the command `report` does: draws what a store holds, with --watch until a grid has ended."""

import time
from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from dynrcnn_ray.commands.judged import holds_claims, print_findings
from dynrcnn_ray.commands.report import ReportOptions
from dynrcnn_ray.execution.stored_trial import existing_store
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.paper.drawn import figures_of_stored
from dynrcnn_ray.paper.speed_table import read_speeds
from dynrcnn_ray.report.html.page import draw_html_report, read_trials
from dynrcnn_ray.report.html.sections import MakeSections
from dynrcnn_ray.report.printed import print_report
from dynrcnn_ray.report.report import draw_report
from dynrcnn_ray.store.files import one_line
from dynrcnn_ray.store.results_store import ResultStore


def report(options: ReportOptions, call: Call) -> int:
    """Draw them from the store alone."""
    store = ResultStore.open(storage_location(options.storage, options.scale))
    if options.watch:
        _watch(store, options.every, call.program.page_sections())
    store = existing_store(options)
    experiments = store.experiments()
    has_speeds = bool(read_speeds(store))
    if not (experiments or has_speeds):
        print(f"{store.files.describe_path('')} holds no results yet; run an experiment first, such as table3")
        return 0
    store = store.fold()
    trials = read_trials(store)
    drawn = {}
    for name in experiments:
        drawn[name] = draw_report(store, name, figures_of_stored(name), trials)
        print_report(name, drawn[name])
    if holds_claims(store):
        place = store.files.place
        print_findings(store, call.shown(options.storage, place), trials)
    print(f"\n{draw_html_report(store, trials, call.program.page_sections(), drawn)}")
    if stalled := _stalled(trials):
        print(f"{stalled}: what ran them was killed; the same command goes on.")
    return 0


def _watch(store: ResultStore, every: float, sections: Sequence[MakeSections]) -> None:
    """Draw tables, figures and the page until every planned trial has ended, or none runs any more that has begun.

    Each look at the store prints a line. Where one fails, the line says why and the next one tries again: a storage may
    not answer for a while.
    """
    # Once something has run, two looks in a row find it ended: a search plans its next trial when one has ended.
    looks_at_an_end = 1
    while True:
        try:
            is_open, told = _look(store, every, sections)
        except Exception as error:  # Whatever drawing raises, the grid goes on.
            is_open, told = True, f"not drawn: {one_line(error) or type(error).__name__}"
        looks_at_an_end = 0 if is_open else looks_at_an_end + 1
        if looks_at_an_end >= 2:
            return
        print(f"{datetime.now():%H:%M:%S}  {told}", flush=True)
        time.sleep(every)


def _look(store: ResultStore, every: float, sections: Sequence[MakeSections]) -> tuple[bool, str]:
    """Draw what the store holds while trials are still to come.

    Returns:
        Whether there is more to come, and what there is in words.
    """
    experiments = store.experiments()
    if not experiments:
        what = "holds no results yet" if store.files.is_there() else "is not there yet"
        return True, f"{store.files.describe_path('')} {what}"
    store = store.fold()
    trials = read_trials(store)
    if not _is_open(store, trials):
        return False, "every planned trial has ended"
    drawn = {name: draw_report(store, name, figures_of_stored(name), trials) for name in experiments}
    page = draw_html_report(store, trials, sections, drawn, renew_seconds=every)
    counts = trials["status"].value_counts()
    told = ", ".join(f"{counts.get(status, 0)} {status}" for status in ("finished", "running", "failed"))
    stalled = _stalled(trials)
    # Those that have not begun will not either: one command runs them all.
    is_open = not stalled or "running" in counts
    return is_open, f"{told}{stalled and f', {stalled}'}: {page}"


def _stalled(trials: pd.DataFrame) -> str:
    """The trials that were killed, in words; empty if there are none."""
    stalled = trials.loc[trials["status"] == "stalled", :]
    if stalled.empty:
        return ""
    return f"{len(stalled)} stalled since {stalled['finished_at'].max():%Y-%m-%d %H:%M} UTC"


def _is_open(store: ResultStore, trials: pd.DataFrame) -> bool:
    """Whether a planned trial has not ended yet."""
    ended = set(trials.loc[trials["status"].isin(["finished", "failed"]), "trial_id"])
    plans = [plan for name in store.experiments() if (plan := store.plan(name)) is not None]
    return any(set(plan["trial_id"].dropna()) - ended for plan in plans)
