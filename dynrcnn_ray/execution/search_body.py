"""What the command `search` does: it searches, then compares the winner with the baseline."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.prepare import images_to_generate
from dynrcnn_ray.execution.address import require_cluster
from dynrcnn_ray.execution.commit import git_commit, say_if_unknown
from dynrcnn_ray.execution.dry_run import print_what_does_not_fit
from dynrcnn_ray.execution.planned import require_name
from dynrcnn_ray.execution.required_models import require_models
from dynrcnn_ray.execution.run import run_experiments
from dynrcnn_ray.execution.search import PlannedSearch, run_search
from dynrcnn_ray.execution.search_command import SearchOptions
from dynrcnn_ray.execution.searched import searched, trials_so_far, with_their_models
from dynrcnn_ray.execution.stored_trial import with_trial_id
from dynrcnn_ray.experiment.experiment import (
    METRICS_BY_IOU,
    SEARCH_RESULT,
    SEARCHED,
    Experiment,
    Row,
    field_value,
)
from dynrcnn_ray.experiment.search_space import Space, labels_of, space_of_flags, trial_at
from dynrcnn_ray.experiment.sweep import fields_of_flags
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.plans import with_earlier_rows
from dynrcnn_ray.store.results_store import ResultStore


def search_and_compare(options: SearchOptions, call: Call) -> int:
    """Search, then compare the winner with the baseline."""
    options = with_trial_id(options)
    seeds = options.seeds
    space = space_of_flags(options.range, options.log, options.choice, options.config())
    if options.dry_run:
        return _print_plan(options, space, seeds)
    with contextlib.ExitStack() as cluster:
        winner = _search(options, space, seeds[0], call, cluster)
        if winner is None:
            print("No trial of the search has finished; give more --trials, or other ranges.")
            return 1
        values = {path: field_value(winner, path) for path in space}
        print(f"\nThe winner: {', '.join(f'{path} = {cell}' for path, cell in labels_of(winner, space).items())}")
        experiment = _final_table(options.name, values, fields_of_flags(options.baseline), space)
        return run_experiments([experiment], options, seeds, call).exit_code


def _search(
    options: SearchOptions, space: Space, seed: int, call: Call, cluster: contextlib.ExitStack
) -> TrialConfig | None:
    """Run what is left of the search.

    Args:
        options: what to search.
        space: what is varied.
        seed: of the search's own trials.
        call: the command as it was given.
        cluster: takes the Ray cluster, if the search has trials to run: what comes after needs no other.

    Returns:
        The finished trial with the highest AP on the part that was kept out; None if none has finished.
    """
    storage = storage_location(options.storage, options.scale)
    store = ResultStore.open(storage)
    name, shown = f"{options.name}_search", call.shown(options.storage, store.files.place)
    require_name(store, options.name, SEARCH_RESULT)
    require_name(store, name, SEARCHED)
    require_cluster()
    base = searched(options, space, seed)
    so_far = trials_so_far(store, name, base, space)

    def add_to_plan(trial: Trial) -> None:
        row = Row(labels_of(trial.config, space), dataclasses.replace(trial.config, seed=0), {})
        one = Experiment(name, SEARCHED, f"Trials of the search {options.name}", ("AP",), (), lambda _: [row])
        store.write_plan(name, with_earlier_rows(store.plan(name), one.plan(base, [seed], shown)))

    if (left := options.trials - len(so_far.known)) > 0:
        require_models(with_their_models(base, space, fields_of_flags(options.baseline)), store)
        print(f"search: {left} trials to run, {len(so_far.known)} already there.", flush=True)
        commit = git_commit()
        say_if_unknown(commit)
        search = PlannedSearch(name, base, space, options.trials, options.search_seed, options.asha)
        try:
            run_search(
                search,
                so_far.known,
                so_far.interrupted,
                cluster,
                storage=storage,
                git_commit=commit,
                on_trial=add_to_plan,
            )
        except KeyboardInterrupt as interrupt:
            with contextlib.suppress(StoreError):
                done = len(trials_so_far(store, name, base, space).known)
                place = store.files.place
                interrupt.add_note(f"{done} of {options.trials} trials are in {place}; the same command goes on")
            raise
        so_far = trials_so_far(store, name, base, space)
    finished, stopped = so_far.finished, so_far.stopped
    if not finished:
        return None
    best = max(finished, key=lambda trial: finished[trial])
    row = store.trials([best], ["trial_id", "config"]).to_dict("records")[0]
    ended = f"{len(finished)} trials have finished" + (f", {len(stopped)} were stopped early" if stopped else "")
    print(f"search: {ended}; the best AP on the part kept out is {finished[best]:.1f}.")
    return store.trial_of(row).config


def _print_plan(options: SearchOptions, space: Space, seeds: Sequence[int]) -> int:
    """Print what is there of the search, and what would run."""
    store = ResultStore.open(storage_location(options.storage, options.scale))
    known = 0
    # Where images are still to be generated, no trial of theirs is known here.
    if not images_to_generate(options.data):
        base = searched(options, space, seeds[0])
        known = len(trials_so_far(store, f"{options.name}_search", base, space).known)
    place, left = store.files.place, max(0, options.trials - known)
    judged = f"judged on {options.holdout:.0%} of the training split"
    print(f"{options.name}: {options.trials} trials over {', '.join(space)}, {judged}; {known} in {place}, {left} new")
    print(f"then the winner and the baseline with {len(seeds)} seeds each, on the validation split")
    print_what_does_not_fit([options.config().run])
    return 0


def _final_table(name: str, values: Mapping[str, Any], of_baseline: Mapping[str, Any], space: Space) -> Experiment:
    """The winner against the baseline, on the validation split."""

    def rows(base: TrialConfig) -> list[Row]:
        of_fixed, of_winner = trial_at(Trial(base), of_baseline), trial_at(Trial(base), values)
        fixed, winner = of_fixed.config, of_winner.config
        first = Row({"Setting": "baseline", **labels_of(fixed, space)}, fixed, {}, baseline=0)
        if of_winner.trial_id == of_fixed.trial_id:
            return [first]
        return [first, Row({"Setting": "winner", **labels_of(winner, space)}, winner, {}, baseline=0)]

    return Experiment(
        name=name,
        reference=SEARCH_RESULT,
        title=f"The winner of the search {name} against the baseline, on the validation split",
        metrics=METRICS_BY_IOU,
        overrides=(),
        rows=rows,
    )
