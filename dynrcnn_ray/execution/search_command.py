"""The command `search`: the best values of some fields, found on a part of the training split that is kept out.

  dynrcnn search --name ki --range dynamic.iou-top-k 32 256 --range train.learning-rate 0.002 0.05
                 --log train.learning-rate --trials 20 --baseline dynamic.dla=false dynamic.dsl=false --seeds 0 1 2

Optuna's TPE, under Ray Tune, suggests trials. Each trains on the training split without the part --holdout, and its AP
on that part judges it: the validation split is never searched on. At the end the winner and the baseline train on the
whole training split, over --seeds, and a table compares them on the validation split. The same command again goes on
where a search has stopped; with more --trials it goes further.

--asha stops trials that do badly at their checkpoints. The learning rate falls in steps, late in a training: a trial
that leads before need not lead after, so early AP is a poor judge. Leave it out where the trials are affordable.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import (
    METRICS_BY_IOU,
    SEARCH_RESULT,
    SEARCHED,
    Experiment,
    Row,
    field_value,
    identified,
)
from dynrcnn_ray.experiment.search_space import Space, holds, labels_of, space_of_flags, trial_at
from dynrcnn_ray.experiment.sweep import check_name, fields_of_flags
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import RunOptions, checked_seeds, start_from_base, storage_location

if TYPE_CHECKING:
    from dynrcnn_ray.store.results_store import ResultStore

_HELD_OUT = "held_out"


@dataclass(frozen=True)
class SearchOptions(RunOptions):
    """Options of the command `search`."""

    name: str = ""
    """The search's name: its table in the store has it, its trials are those of NAME_search."""
    range: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A field and its range: FIELD LOW HIGH."""
    log: tuple[str, ...] = ()
    """Fields whose range is searched by its logarithm."""
    choice: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A field and the values to choose from: FIELD VALUE VALUE ..."""
    trials: int = 20
    """How many trials the search has in all."""
    holdout: float = 0.2
    """The share of the training split that is kept out of the search's trainings, to judge them."""
    baseline: tuple[str, ...] = ()
    """What the winner is compared with: FIELD=VALUE on top of the base. Default: the base itself."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the winner and the baseline at the end; the search's own trials have the first."""
    search_seed: int = 0
    """Seed of the suggestions."""
    asha: bool = False
    """Stop trials early that do badly at their checkpoints (see above)."""


def run(options: SearchOptions, call: Call) -> int:
    """Search, then compare the winner with the baseline."""
    seeds, base = checked_seeds(options.seeds), options.config()
    check_name(options.name)
    space = space_of_flags(options.range, options.log, options.choice, base)
    trial_at(Trial(base), fields_of_flags(options.baseline))
    if options.trials < 1:
        raise ConfigError(f"--trials: {options.trials} must be 1 or greater")
    if not 0 < options.holdout < 1:
        raise ConfigError(f"--holdout: {options.holdout} must be between 0 and 1")
    if options.dry_run:
        return _print_plan(options, space, seeds)
    from dynrcnn_ray.execution.run import run_experiments

    with contextlib.ExitStack() as cluster:
        winner = _search(options, space, seeds[0], call, cluster)
        if winner is None:
            print("No trial of the search has finished; give more --trials, or other ranges.")
            return 1
        values = {path: field_value(winner, path) for path in space}
        print(f"\nThe winner: {', '.join(f'{path} = {cell}' for path, cell in labels_of(winner, space).items())}")
        experiment = _final_table(options.name, values, fields_of_flags(options.baseline), space)
        return run_experiments([experiment], options, seeds, call)


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
    from dynrcnn_ray.execution.address import require_cluster
    from dynrcnn_ray.execution.commit import git_commit, say_if_unknown
    from dynrcnn_ray.execution.planned import require_name
    from dynrcnn_ray.execution.run import require_models
    from dynrcnn_ray.execution.search import PlannedSearch, run_search
    from dynrcnn_ray.store.files import StoreError
    from dynrcnn_ray.store.plans import added_up
    from dynrcnn_ray.store.results_store import ResultStore

    storage = storage_location(options.storage, options.scale)
    store = ResultStore.open(storage)
    name, shown = f"{options.name}_search", call.shown(options.storage, store.files.describe_path("").rstrip("/"))
    require_name(store, options.name, SEARCH_RESULT)
    require_name(store, name, SEARCHED)
    require_cluster()
    base = _searched(options, space, seed)
    so_far = _trials_so_far(store, name, base, space)

    def add_to_plan(trial: Trial) -> None:
        row = Row(labels_of(trial.config, space), dataclasses.replace(trial.config, seed=0), {})
        one = Experiment(name, SEARCHED, f"Trials of the search {options.name}", ("AP",), (), lambda _: [row])
        store.write_plan(name, added_up(store.plan(name), one.plan(base, [seed], shown)))

    if (left := options.trials - len(so_far.known)) > 0:
        require_models(_with_their_models(base, space, fields_of_flags(options.baseline)), store)
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
                done = len(_trials_so_far(store, name, base, space).known)
                place = store.files.describe_path("").rstrip("/")
                interrupt.add_note(f"{done} of {options.trials} trials are in {place}; the same command goes on")
            raise
        so_far = _trials_so_far(store, name, base, space)
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
    from dynrcnn_ray.data.prepare import images_to_generate
    from dynrcnn_ray.execution.dry_run import print_what_does_not_fit
    from dynrcnn_ray.store.results_store import ResultStore

    store = ResultStore.open(storage_location(options.storage, options.scale))
    known = 0
    # Where images are still to be generated, no trial of theirs is known here.
    if not images_to_generate(options.data):
        base = _searched(options, space, seeds[0])
        known = len(_trials_so_far(store, f"{options.name}_search", base, space).known)
    place, left = store.files.describe_path("").rstrip("/"), max(0, options.trials - known)
    judged = f"judged on {options.holdout:.0%} of the training split"
    print(f"{options.name}: {options.trials} trials over {', '.join(space)}, {judged}; {known} in {place}, {left} new")
    print(f"then the winner and the baseline with {len(seeds)} seeds each, on the validation split")
    print_what_does_not_fit([options.config().run])
    return 0


def _searched(options: SearchOptions, space: Space, seed: int) -> Trial:
    """What the search's trials vary, with its data."""
    from dynrcnn_ray.execution.run import base_for_this_machine, with_data

    config = base_for_this_machine(options)
    if options.asha:
        _check_early_stopping(config)
    choices = space.get("model.name")
    names = choices if isinstance(choices, tuple) else (config.model.name,)
    masks = any(dataclasses.replace(config.model, name=name).has_masks for name in names)
    base = _with_part_kept_out(with_data(config, masks), options.holdout, masks=masks)
    run = dataclasses.replace(config.run, evaluate_checkpoints=options.asha)
    return dataclasses.replace(base, config=dataclasses.replace(base.config, seed=seed, run=run))


def _with_their_models(base: Trial, space: Space, of_baseline: Mapping[str, Any]) -> list[Trial]:
    """Trials whose models are asked for before the search: the base, the baseline, and those of the space's files."""
    trials = [identified(base.config, base.inputs), trial_at(base, of_baseline)]
    choices = {path: values for path, values in space.items() if isinstance(values, tuple)}
    if choices.keys() & {"model.weights", "model.detector_weights", "model.module"}:
        of_model = {path: values for path, values in choices.items() if path.startswith("model.")}
        for values in itertools.product(*of_model.values()):
            with contextlib.suppress(ConfigError):  # The search leaves out what does not go together.
                trials.append(trial_at(base, dict(zip(of_model, values, strict=True))))
    return trials


def _check_early_stopping(base: TrialConfig) -> None:
    if not base.run.is_local:
        # Ray frees the workers of a trial that is stopped through its dashboard, which does not run.
        raise ConfigError("--asha: stops trials of one worker alone; add --num-workers 1")
    if base.run.checkpoint_every >= base.total_steps:
        raise ConfigError(
            f"--asha: judges trials at their checkpoints, and there is none before the last of {base.total_steps} "
            f"steps; lower --run.checkpoint-every, which is {base.run.checkpoint_every}"
        )


def _with_part_kept_out(base: Trial, share: float, *, masks: bool) -> Trial:
    """The same, with a part of the training split as its validation split."""
    from dynrcnn_ray.data.layout import find_split
    from dynrcnn_ray.data.prepare import prepare_data

    files = find_split(base.inputs.data_root, base.config.data.train_split)
    data = dataclasses.replace(
        base.config.data,
        root="",
        train_annotations=str(files.annotations),
        train_images=str(files.images),
        val_annotations="",
        val_images="",
        val_split=_HELD_OUT,
        val_fraction=share,
    )
    return Trial(dataclasses.replace(base.config, data=data), prepare_data(data, include_masks=masks).inputs)


@dataclass(frozen=True)
class _SoFar:
    """What an earlier call has left of a search.

    Attributes:
        finished: AP of the trials that have finished, by their id.
        stopped: AP of those that were stopped early, at their last logged checkpoint.
        interrupted: those that have begun, and not ended.
    """

    finished: dict[str, float]
    stopped: dict[str, float | None]
    interrupted: list[Trial]

    @property
    def known(self) -> dict[str, float | None]:
        return {**self.finished, **self.stopped}


def _trials_so_far(store: "ResultStore", name: str, base: Trial, space: Space) -> _SoFar:
    """The search's trials of this base, whose other fields are the same, at points of the space."""
    from dynrcnn_ray.execution.search import STOPPED_EARLY

    so_far = _SoFar({}, {}, [])
    plan = store.plan(name)
    columns = ["trial_id", "status", "error", "AP", "config"]
    rows = [] if plan is None else store.trials_so_far(plan["trial_id"].dropna(), columns).to_dict("records")
    for row in rows:
        config, trial_id = store.trial_of(row).config, row["trial_id"]
        if not holds(space, config):
            continue
        here = trial_at(base, {path: field_value(config, path) for path in space})
        if here.trial_id != trial_id:
            continue
        if row["status"] == "finished":
            so_far.finished[trial_id] = float(row["AP"] or 0.0)
        elif row["error"] == STOPPED_EARLY:
            logged = store.dynamics([trial_id], ["trial_id", "AP"])["AP"].dropna()
            so_far.stopped[trial_id] = None if logged.empty else float(logged.iloc[-1])
        elif row["status"] in ("running", "stalled"):
            so_far.interrupted.append(here)
    return so_far


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
        anchor=SEARCH_RESULT,
        title=f"The winner of the search {name} against the baseline, on the validation split",
        metrics=METRICS_BY_IOU,
        sets=(),
        rows=rows,
    )


COMMAND = Command(
    name="search",
    group="Your own experiment",
    title="find the best values of some fields, on a part of the training split (Optuna's TPE)",
    description=__doc__ or "",
    options=SearchOptions,
    run=run,
    defaults=start_from_base(SearchOptions),
)
