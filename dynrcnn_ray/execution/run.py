"""Runs experiments: plan, train what the store does not hold yet, draw tables and figures."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.address import require_cluster
from dynrcnn_ray.execution.base import base_for_this_machine, data_of_plan, say_problem, with_data, with_their_data
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.claims import checked_claims, print_claims
from dynrcnn_ray.execution.commit import git_commit, say_if_unknown
from dynrcnn_ray.execution.dry_run import print_plan, print_what_does_not_fit
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.execution.planned import Planned, plan_name
from dynrcnn_ray.execution.required_models import require_models
from dynrcnn_ray.execution.seeds import print_seeds
from dynrcnn_ray.execution.stored_trial import with_trial_id
from dynrcnn_ray.execution.tables_so_far import TablesSoFar
from dynrcnn_ray.execution.until_decided import Course, UntilDecided, claims_to_decide, seeds_to_train
from dynrcnn_ray.experiment.costs import place_seconds
from dynrcnn_ray.experiment.experiment import Experiment, Seeds
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import RunOptions, storage_location
from dynrcnn_ray.report.figures import figures_of
from dynrcnn_ray.report.html.page import REPORT_FILE, draw_html_report, read_trials
from dynrcnn_ray.report.html.sections import MakeSections
from dynrcnn_ray.report.printed import print_report
from dynrcnn_ray.report.report import draw_report
from dynrcnn_ray.store.explosions import explosions
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore


@dataclass(frozen=True)
class Outcome:
    """What a command has done.

    Attributes:
        exit_code: 0 if all its trials have finished.
        trial_ids: of its trials; none for a plan that was only printed.
    """

    exit_code: int
    trial_ids: tuple[str, ...] = ()


def run_experiments(
    experiments: Sequence[Experiment],
    options: RunOptions,
    seeds: Sequence[int],
    call: Call,
    until: UntilDecided | None = None,
) -> Outcome:
    """Run what the store lacks of some experiments, as one grid; then draw each of them.

    Args:
        experiments: what to run.
        options: the base configuration, the storage, and whether only to print the plan.
        seeds: every row runs once with each.
        call: the command, for the plans.
        until: in place of the seeds, to add them until the claims are decided.

    Raises:
        ValueError: one of the project's own, for whatever cannot be run.
    """
    options = with_trial_id(options)
    sets_workers = any("run.num_workers" in experiment.overrides for experiment in experiments)
    config = options.config() if sets_workers else base_for_this_machine(options)
    for experiment in experiments:
        checked_claims(experiment, config)
    if until:
        claims_to_decide(experiments, config, until)
    storage = storage_location(options.storage, options.scale)
    store = ResultStore.open(storage)
    seeds_of: Mapping[str, Seeds] = {experiment.name: seeds for experiment in experiments}
    if options.dry_run:
        return Outcome(_print_plans(experiments, config, store, seeds_of, until))
    base = Trial(config)
    if any(experiment.rows(config) for experiment in experiments):
        require_cluster()
        base, experiments = with_their_data(experiments, config, with_data)
    looks: Iterable[Mapping[str, Seeds]] = [seeds_of]
    if until:
        course = Course.of(store, experiments, base, until)
        course.say_most()
        looks = course.looks()
    shown = call.shown(options.storage, store.files.place)
    trials, planned, has_trained = {}, None, False
    for seeds_of in looks:
        trials = _distinct_trials(experiments, base, seeds_of)
        by_name = {plan_name(experiment, list(trials)): experiment for experiment in experiments}
        planned = Planned(store, by_name, base, seeds_of, shown)
        planned.require_room()
        with _saying_where_it_goes_on(store, trials):
            has_trained = _train_missing(trials, planned, storage, call.command, longest_first=len(experiments) > 1)
    assert planned is not None
    with _saying_where_it_goes_on(store, trials):
        if not has_trained:
            planned.write()
        _draw(planned, config.run.mlflow if trials else "", call.program.page_sections())
        for trial_id, note in explosions(store, trials).items():
            print(f"Trial {trial_id}: {note}.")
        return Outcome(_failures(store, list(trials)), tuple(trials))


def _print_plans(
    experiments: Sequence[Experiment],
    config: TrialConfig,
    store: ResultStore,
    seeds_of: Mapping[str, Seeds],
    until: UntilDecided | None,
) -> int:
    """Print what a command would train; returns its exit code."""
    base, experiments, problem = data_of_plan(experiments, config)
    seeds_of = seeds_to_train(store, experiments, base, until) if until else seeds_of
    for experiment in experiments:
        print_plan(store, experiment, base, seeds_of[experiment.name])
        print_claims(store, experiment, base)
        print_seeds(store, experiment)
    trials = _distinct_trials(experiments, base, seeds_of)
    print_what_does_not_fit(trial.config.run for _, _, trial in trials.values())
    return say_problem(problem)


def _draw(planned: Planned, mlflow: str, sections: Sequence[MakeSections]) -> None:
    """Draw and print what was planned; log the store's page to MLflow, where a URI of it is given."""
    store = planned.store
    for name, experiment in planned.experiments.items():
        # Another command may have replaced the plan. Plan, table and figures are those of the one that ends last.
        figures = figures_of(experiment.figures, name)
        print_report(name, draw_report(store, name, figures, plan=planned.write_plan(name)))
    if mlflow:
        _log_report(store, mlflow, list(planned.experiments), sections)


def _log_report(store: ResultStore, uri: str, names: Sequence[str], sections: Sequence[MakeSections]) -> None:
    """Draw the store's page, and log it to MLflow beside the trials."""
    # Imported late, as Ray comes with it.
    from dynrcnn_ray.execution.trackers import log_report

    draw_html_report(store, read_trials(store), sections)
    content = store.files.read_bytes(REPORT_FILE)
    assert content is not None
    for name in names:
        log_report(uri, name, content.decode())


def _distinct_trials(
    experiments: Sequence[Experiment], base: Trial, seeds: Mapping[str, Seeds]
) -> dict[str, tuple[str, str, Trial]]:
    """Every trial once, by its id, with the experiment and the row that ask for it first."""
    trials: dict[str, tuple[str, str, Trial]] = {}
    for experiment in experiments:
        for trial_id, (setting, trial) in experiment.trials(base, seeds[experiment.name]).items():
            trials.setdefault(trial_id, (experiment.name, setting, trial))
    return trials


def _train_missing(
    trials: Mapping[str, tuple[str, str, Trial]],
    planned: Planned,
    storage: str,
    command: str,
    *,
    longest_first: bool,
) -> bool:
    """Run the trials that the store lacks, and write the plans before the first of them starts.

    Returns:
        Whether there were any.
    """
    store = planned.store
    finished = store.finished_trials()
    missing = [trial for trial_id, trial in trials.items() if trial_id not in finished]
    place, done = store.files.place, len(trials) - len(missing)
    if not missing:
        if trials:
            print(f"{command}: nothing to train, all {done} trials are in {place}.")
        return False
    require_models([trial for _, _, trial in missing], store)
    # Imported late: Ray takes seconds, and a plan or a table that is there has no need of it.
    from dynrcnn_ray.execution.trials import run_trials

    if longest_first:
        # A long trial that starts last would leave all other places idle.
        missing.sort(key=lambda trial: place_seconds([trial[2]]), reverse=True)
    print(f"{command}: {len(missing)} trials to run, {done} already in {place}.", flush=True)
    commit = git_commit()
    say_if_unknown(commit)
    run_trials(
        [PlannedTrial(trial, experiment, setting) for experiment, setting, trial in missing],
        storage=storage,
        git_commit=commit,
        on_start=planned.write,
        after_trial=TablesSoFar(planned, [trial.trial_id for _, _, trial in missing]).after,
    )
    return True


@contextlib.contextmanager
def _saying_where_it_goes_on(store: ResultStore, trials: Mapping[str, tuple[str, str, Trial]]) -> Iterator[None]:
    """Note on an interrupt what the same command goes on with."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(StoreError):
            interrupt.add_note(_where_it_goes_on(store, trials))
        raise


def _where_it_goes_on(store: ResultStore, trials: Mapping[str, tuple[str, str, Trial]]) -> str:
    finished = store.finished_trials()
    missing = {trial_id: trial for trial_id, (_, _, trial) in trials.items() if trial_id not in finished}
    steps = {trial_id: CheckpointFolder(store.files, trial.training_id).steps() for trial_id, trial in missing.items()}
    begun = [f"trial {trial_id} from step {found[-1]}" for trial_id, found in steps.items() if found]
    fresh = len(missing) - len(begun)
    begun += [f"{fresh} from the start"] if fresh else []
    return (
        f"{len(trials) - len(missing)} of {len(trials)} trials are in {store.files.place}; "
        f"the same command goes on with {', '.join(begun) or 'the report'}"
    )


def _failures(store: ResultStore, trial_ids: list[str]) -> int:
    """Print why trials failed.

    Returns:
        The exit code: 0 if all of them have finished.
    """
    trials = store.trials(trial_ids, ["trial_id", "status", "error"])
    rows = {row["trial_id"]: row for row in trials.to_dict("records")}
    unfinished = [trial_id for trial_id in trial_ids if rows.get(trial_id, {}).get("status") != "finished"]
    for trial_id in unfinished:
        reason = rows[trial_id]["error"] if trial_id in rows else "its driver left no result"
        print(f"Trial {trial_id} has not finished: {reason}. The same command runs it again.")
    return 1 if unfinished else 0
