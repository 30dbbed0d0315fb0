"""The command `report`: every table and figure of a store again, and its page; with --watch, until a grid has ended."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution.stored_trial import existing_store
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import StoredOptions, storage_location

if TYPE_CHECKING:
    import pandas as pd

    from dynrcnn_ray.store.results_store import ResultStore


@dataclass(frozen=True)
class ReportOptions(StoredOptions):
    """Options of the command `report`."""

    watch: bool = False
    """Draw again and again while a grid runs, until all of its trials have ended; the open page renews itself."""
    every: float = 20.0
    """Seconds between two drawings with --watch, from 1."""


def report(options: ReportOptions, call: Call) -> int:
    """Draw them from the store alone."""
    if options.every < 1:
        raise ConfigError(f"--every: {options.every:g} must be 1 or greater")
    from dynrcnn_ray.execution.run import print_report
    from dynrcnn_ray.paper.drawn import figures_of_stored
    from dynrcnn_ray.paper.judge import holds_rows_of_the_paper, print_findings
    from dynrcnn_ray.paper.speed_table import read_speeds, speed_section
    from dynrcnn_ray.report.html.page import draw_html_report, read_trials
    from dynrcnn_ray.store.results_store import ResultStore

    store = ResultStore.open(storage_location(options.storage, options.scale))
    if options.watch:
        _watch(store, options.every)
    store = existing_store(options)
    experiments = store.experiments()
    has_speeds = bool(read_speeds(store))
    if not (experiments or has_speeds):
        print(f"{store.files.describe_path('')} holds no results yet; run an experiment first, such as table3")
        return 0
    store = store.fold()
    trials = read_trials(store)
    drawn = {name: print_report(store, name, figures_of_stored(name), trials) for name in experiments}
    if holds_rows_of_the_paper(store):
        place = store.files.describe_path("").rstrip("/")
        print_findings(store, call.shown(options.storage, place), trials)
    print(f"\n{draw_html_report(store, trials, drawn, speed_section(store))}")
    if stalled := _stalled(trials):
        print(f"{stalled}: what ran them was killed; the same command goes on.")
    return 0


def _watch(store: "ResultStore", every: float) -> None:
    """Draw tables, figures and the page until every planned trial has ended, or none runs any more that has begun.

    There is a line for each look at the store.

    A look that fails is told, and the next one may succeed: a storage may not answer for a while.
    """
    from dynrcnn_ray.config.errors import one_line

    # Once something has run, two looks in a row find it ended: a search plans its next trial when one has ended.
    looks_at_an_end = 1
    while True:
        try:
            is_open, told = _look(store, every)
        except Exception as error:  # Whatever drawing raises, the grid goes on.
            is_open, told = True, f"not drawn: {one_line(error)}"
        looks_at_an_end = 0 if is_open else looks_at_an_end + 1
        if looks_at_an_end >= 2:
            return
        print(f"{datetime.now():%H:%M:%S}  {told}", flush=True)
        time.sleep(every)


def _look(store: "ResultStore", every: float) -> tuple[bool, str]:
    """Draw what the store holds while trials are still to come.

    Returns:
        Whether there is more to come, and what there is in words.
    """
    from dynrcnn_ray.paper.drawn import figures_of_stored
    from dynrcnn_ray.paper.speed_table import speed_section
    from dynrcnn_ray.report.html.page import draw_html_report, read_trials
    from dynrcnn_ray.report.report import draw_report

    experiments = store.experiments()
    if not experiments:
        what = "holds no results yet" if store.files.is_there() else "is not there yet"
        return True, f"{store.files.describe_path('')} {what}"
    store = store.fold()
    trials = read_trials(store)
    if not _is_open(store, trials):
        return False, "every planned trial has ended"
    drawn = {name: draw_report(store, name, figures_of_stored(name), trials) for name in experiments}
    page = draw_html_report(store, trials, drawn, speed_section(store), renew_seconds=every)
    counts = trials["status"].value_counts()
    told = ", ".join(f"{counts.get(status, 0)} {status}" for status in ("finished", "running", "failed"))
    stalled = _stalled(trials)
    # Those that have not begun will not either: one command runs them all.
    is_open = not stalled or "running" in counts
    return is_open, f"{told}{stalled and f', {stalled}'}: {page}"


def _stalled(trials: "pd.DataFrame") -> str:
    """The trials that were killed, in words; empty if there are none."""
    stalled = trials.loc[trials["status"] == "stalled", :]
    if stalled.empty:
        return ""
    return f"{len(stalled)} stalled since {stalled['finished_at'].max():%Y-%m-%d %H:%M} UTC"


def _is_open(store: "ResultStore", trials: "pd.DataFrame") -> bool:
    """Whether a planned trial has not ended yet."""
    ended = set(trials.loc[trials["status"].isin(["finished", "failed"]), "trial_id"])
    plans = [plan for name in store.experiments() if (plan := store.plan(name)) is not None]
    return any(set(plan["trial_id"].dropna()) - ended for plan in plans)


COMMAND = Command(
    name="report",
    group="Look at results",
    title="draw tables and figures again, from the store alone, and report.html",
    description="Draw every table and figure of a store again, and report.html: one page that needs no other file. "
    "With --watch, again and again while a grid runs.",
    options=ReportOptions,
    run=report,
)
