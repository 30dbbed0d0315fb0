"""Runs experiments: plan, train what the store does not hold yet, draw tables and figures."""

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pandas as pd

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.layout import with_absolute_paths
from dynrcnn_ray.data.prepare import fingerprint, images_to_generate, prepare_data
from dynrcnn_ray.execution.address import ray_address, require_cluster
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.claims import checked_claims, print_claims
from dynrcnn_ray.execution.commit import git_commit, say_if_unknown
from dynrcnn_ray.execution.dry_run import print_plan, print_what_does_not_fit
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.execution.planned import Planned, plan_name
from dynrcnn_ray.execution.seeds import print_seeds
from dynrcnn_ray.execution.stored_trial import with_trial_id
from dynrcnn_ray.execution.tables_so_far import TablesSoFar
from dynrcnn_ray.execution.until_decided import Course, UntilDecided, claims_to_decide, seeds_to_train
from dynrcnn_ray.experiment.costs import place_seconds
from dynrcnn_ray.experiment.experiment import SINGLE_TRIAL, Experiment, Seeds
from dynrcnn_ray.models.user_module import require_module
from dynrcnn_ray.models.weights import starts_from_file
from dynrcnn_ray.options.command import PROGRAM_NAME, Call
from dynrcnn_ray.options.shared import RunOptions, storage_location
from dynrcnn_ray.report.drawing import Drawing
from dynrcnn_ray.report.figures import figures_of
from dynrcnn_ray.report.html.page import REPORT_FILE, draw_html_report, read_trials
from dynrcnn_ray.report.html.sections import MakeSections
from dynrcnn_ray.report.report import DrawnReport, draw_report
from dynrcnn_ray.store.explosions import explosions
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore


def run_experiments(
    experiments: Sequence[Experiment],
    options: RunOptions,
    seeds: Sequence[int],
    call: Call,
    until: UntilDecided | None = None,
) -> int:
    """Run what the store lacks of some experiments, as one grid; then draw each of them.

    Args:
        experiments: what to run.
        options: the base configuration, the storage, and whether only to print the plan.
        seeds: every row runs once with each.
        call: the command, for the plans.
        until: in place of the seeds, to add them until the claims are decided.

    Returns:
        The exit code: 0 if all trials have finished.

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
        base, experiments, problem = data_of_plan(experiments, config)
        seeds_of = seeds_to_train(store, experiments, base, until) if until else seeds_of
        for experiment in experiments:
            print_plan(store, experiment, base, seeds_of[experiment.name])
            print_claims(store, experiment, base)
            print_seeds(store, experiment)
        trials = _distinct_trials(experiments, base, seeds_of)
        print_what_does_not_fit(trial.config.run for _, _, trial in trials.values())
        return say_problem(problem)
    base = Trial(config)
    if any(experiment.rows(config) for experiment in experiments):
        require_cluster()
        base, experiments = _with_their_data(experiments, config, with_data)
    looks: Iterable[Mapping[str, Seeds]] = [seeds_of]
    if until:
        course = Course.of(store, experiments, base, until)
        course.say_most()
        looks = course.looks()
    shown = call.shown(options.storage, store.files.place)
    trials, by_name, planned, has_trained = {}, {}, None, False
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
        for name in by_name:
            # Another command may have replaced the plan. Plan, table and figures are those of the one that ends last.
            print_report(store, name, figures_of(by_name[name].figures, name), plan=planned.write_plan(name))
        if config.run.mlflow and trials:
            _log_report(store, config.run.mlflow, list(by_name), call.program.page_sections())
        for trial_id, note in explosions(store, trials).items():
            print(f"Trial {trial_id}: {note}.")
        exit_code = _failures(store, list(trials))
        if not exit_code and [experiment.name for experiment in experiments] == [SINGLE_TRIAL]:
            (trial_id,) = trials
            place = shlex.quote(options.storage or store.files.place)
            print(f"\nDetect with it: {PROGRAM_NAME} predict {trial_id} --storage {place} --images PICTURES")
        return exit_code


def _log_report(store: ResultStore, uri: str, names: Sequence[str], sections: Sequence[MakeSections]) -> None:
    """Draw the store's page, and log it to MLflow beside the trials."""
    # Imported late, as Ray comes with it.
    from dynrcnn_ray.execution.trackers import log_report

    draw_html_report(store, read_trials(store), sections)
    content = store.files.read_bytes(REPORT_FILE)
    assert content is not None
    for name in names:
        log_report(uri, name, content.decode())


def _with_their_data(
    experiments: Sequence[Experiment], config: TrialConfig, prepare: Callable[[TrialConfig, bool], Trial]
) -> tuple[Trial, Sequence[Experiment]]:
    """The base with its data, and the experiments; rows with masks have data in which every object has one.

    Args:
        experiments: what to run.
        config: the base's.
        prepare: gives a configuration its data; told whether masks are needed.
    """
    rows = [row.config for each in experiments for row in each.rows(config) if row.config]
    has_masks = config.model.has_masks or any(row.model.has_masks for row in rows)
    if config.model.has_masks or not (has_masks and config.data.drop_invalid):
        return prepare(config, has_masks), experiments
    # Only what is left out depends on whether masks are needed.
    boxes, masks = prepare(config, False), prepare(config, True)
    return boxes, [dataclasses.replace(each, data_of_masks=masks.inputs) for each in experiments]


def with_data(config: TrialConfig, masks: bool) -> Trial:
    """A trial with its data generated, checked (objects without a usable mask too) and known by their fingerprint."""
    data = with_absolute_paths(config.data)
    if images := images_to_generate(data):
        print(f"Generating {images} images; this happens once.", flush=True)
    return Trial(dataclasses.replace(config, data=data), prepare_data(data, include_masks=masks).inputs)


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


def require_models(trials: Iterable[Trial], store: ResultStore) -> None:
    """Refuse models whose weights or whose code is not there before anything starts.

    Raises:
        WeightsError: the weights cannot be had.
        ModuleError: the model's own module cannot build it.
        StoreError: the trial that a model starts from is not in the storage.
    """
    for model, trial in {trial.config.model: trial for trial in trials}.items():
        # Imported where there is something to refuse: PyTorch takes seconds, and only trials' processes need it.
        if starts_from_file(model):
            from dynrcnn_ray.models.backbones import note_on_weights

            if note := note_on_weights(model):
                print(note, file=sys.stderr)
        elif model.weights != "none":
            from dynrcnn_ray.models.backbone_weights import read_backbone_weights

            read_backbone_weights(model)
        if model.detector_weights:
            from dynrcnn_ray.execution.starting_weights import require_starting_weights

            require_starting_weights(trial, store)
        if model.module:
            require_module(model, trial.inputs.module)


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


def base_for_this_machine(options: RunOptions) -> TrialConfig:
    """The trial that the options describe; with one worker where its scale asks for more than this machine can run."""
    config = options.config()
    is_asked_for = options.num_workers is not None or config.run != base_config(options.scale).run
    cores = os.cpu_count() or 1
    if is_asked_for or config.run.gpu or ray_address() or cores >= config.run.num_workers:
        return config
    print(
        f"This machine has {cores} CPU core: one worker a trial instead of the {config.run.num_workers} of this scale."
    )
    return dataclasses.replace(config, run=dataclasses.replace(config.run, num_workers=1))


def data_of_plan(experiments: Sequence[Experiment], config: TrialConfig) -> tuple[Trial, Sequence[Experiment], str]:
    """The base with the fingerprint of its data and the experiments, as a plan needs them; and what is wrong with them.

    Nothing is generated, and data that cannot be used leave a plan whose trial ids are not final.
    """
    try:
        return *_with_their_data(experiments, config, _with_fingerprint), ""
    except DataError as error:
        return Trial(config), experiments, str(error)


def say_problem(problem: str) -> int:
    """Say what is wrong with a plan's data; returns the exit code: 2 where something is."""
    if problem:
        print(f"The data cannot be used, so the trial ids are not final: {problem}")
    return 2 if problem else 0


def _with_fingerprint(config: TrialConfig, masks: bool) -> Trial:
    return Trial(config, Inputs(data=fingerprint(config.data, include_masks=masks)))


def print_report(
    store: ResultStore,
    experiment: str,
    figures: Sequence[Drawing],
    trials: pd.DataFrame | None = None,
    plan: pd.DataFrame | None = None,
) -> DrawnReport:
    """Draw an experiment, print its table and where its files are.

    Args:
        store: where to read and write.
        experiment: its name.
        figures: what it brings, from `figures_of`.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.
        plan: what to draw; None: the store's plan.

    Returns:
        What was drawn.
    """
    drawn = draw_report(store, experiment, figures, trials, plan)
    print()
    if not drawn.table:
        print("\n".join(drawn.paths) or f"{experiment}: no finished trial has recorded what it shows")
        return drawn
    print(drawn.table)
    print("\n".join(drawn.paths))
    if drawn.conclusion:
        print(f"\n{drawn.conclusion}")
    return drawn


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
