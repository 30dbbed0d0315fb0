"""What the commands do: plan, run what the store does not hold yet, draw the report."""

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.orchestration.address import ray_address, require_cluster
from dynrcnn_ray.results.files import StoreError
from dynrcnn_ray.results.html.page import draw_html_report, read_trials
from dynrcnn_ray.results.report import draw_findings, draw_report, is_figure
from dynrcnn_ray.results.schemas import METRICS
from dynrcnn_ray.results.speed_table import SPEED_FILE
from dynrcnn_ray.results.store import ResultStore
from dynrcnn_ray.results.table_text import simple_markdown
from dynrcnn_ray.scales import SCALES, Scale, base_config
from experiments.commit import git_commit, say_if_unknown
from experiments.costs import PLACES, place_seconds, wall_seconds
from experiments.experiment import Experiment, Row
from experiments.findings import paper_findings, paper_rows
from experiments.options import (
    ExperimentOptions,
    ListOptions,
    ReportOptions,
    RunOptions,
    StoreOptions,
    TrainOptions,
    parse,
    storage_location,
)
from experiments.seeds import print_seeds, print_seeds_of_all

_MASK_COLUMNS = tuple(f"segm_{name}" for name in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"))

SINGLE_TRIAL = "train"


def single_trial(config: TrialConfig) -> Experiment:
    """One trial as a table of one row."""
    return Experiment(
        name=SINGLE_TRIAL,
        anchor="One trial",
        title=f"{config.model.name} with the given configuration",
        metrics=(*METRICS, *_MASK_COLUMNS) if config.model.has_masks else METRICS,
        sets=(),
        rows=lambda base: [Row(labels={"Setting": "trial"}, config=base, reported={})],
    )


def list_experiments(experiments: Sequence[Experiment], arguments: Sequence[str]) -> int:
    """Print every experiment with its place in the paper and its size."""
    options = parse(ListOptions, arguments, command="list")
    base = base_config(options.scale)
    all_trials: set[str] = set()
    print(f"{'command':<11}  {'in the paper':<20}  {'rows':>4}  {'distinct trials':>15}  shows")
    for experiment in experiments:
        rows, trials = experiment.rows(base), experiment.trials(base, seeds=(0,))
        all_trials |= trials.keys()
        print(f"{experiment.name:<11}  {experiment.anchor:<20}  {len(rows):>4}  {len(trials):>15}  {experiment.title}")
    print(f"\n{len(all_trials)} distinct trials in all: a trial that several tables need runs once in a storage.")
    return 0


def run_experiment(experiment: Experiment, arguments: Sequence[str]) -> int:
    """Run a table's missing trials, then print the table and where it is."""
    options = parse(ExperimentOptions, arguments, command=experiment.name)
    experiment.check_base(options.unchecked_config(), base_config(options.scale))
    return _run([experiment], options, options.checked_seeds(), arguments, experiment.name)


def run_all(experiments: Sequence[Experiment], arguments: Sequence[str]) -> int:
    """Run the missing trials of every table and figure as one grid: each trial once, the longest first."""
    options = parse(ExperimentOptions, arguments, command="all")
    for experiment in experiments:
        experiment.check_base(options.unchecked_config(), base_config(options.scale))
    if options.dry_run:
        return print_plan_of_all(experiments, options)
    return _run(experiments, options, options.checked_seeds(), arguments, "all")


def print_plan_of_all(experiments: Sequence[Experiment], options: ExperimentOptions) -> int:
    """Print the plan of `all`: every experiment's rows and new trials, then the time of each scale."""
    seeds = options.checked_seeds()
    base = options.config()
    print(f"Scale {base.scale}, seeds {', '.join(map(str, seeds))}. A trial that several tables need runs once.\n")
    rows = []
    known: dict[str, TrialConfig] = {}
    for experiment in experiments:
        trials = {trial_id: config for trial_id, (_, config) in experiment.trials(base, seeds).items()}
        new = {trial_id: config for trial_id, config in trials.items() if trial_id not in known}
        cost = _time(
            wall_seconds([*known.values(), *new.values()], base.scale) - wall_seconds(known.values(), base.scale)
        )
        known |= new
        rows.append([experiment.name, str(len(experiment.rows(base))), str(len(trials)), str(len(new)), cost])
    print(simple_markdown(["experiment", "rows", "trials", "new trials", "time"], rows))
    print(
        f"\nDistinct trials: {len(known)}. Time is an estimate for {PLACES[base.scale]} "
        f"{'GPUs' if base.run.gpu else 'CPU cores'}; table7 is timed apart (see its --help).\n"
    )
    print(
        simple_markdown(
            ["scale", "trials", "time", "on", "GPU time"], [_cost(experiments, name, seeds) for name in SCALES]
        )
    )
    print_seeds_of_all(ResultStore.open(storage_location(options.storage, options.scale)), experiments)
    print("\nScale coco: from an assumed throughput, which experiments/costs.py states; nothing was measured on a GPU.")
    return 0


def _cost(experiments: Sequence[Experiment], scale: Scale, seeds: Sequence[int]) -> list[str]:
    base = base_config(scale)
    trials = {
        trial_id: config
        for experiment in experiments
        for trial_id, (_, config) in experiment.trials(base, seeds).items()
    }
    wall = _time(wall_seconds(trials.values(), scale))
    places = f"{PLACES[scale]} {'GPUs' if base.run.gpu else 'CPU cores'}"
    return [scale, str(len(trials)), wall, places, _time(place_seconds(trials.values())) if base.run.gpu else "-"]


def _time(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36000 else f"{seconds / 3600:.0f} h"


def train_one(arguments: Sequence[str]) -> int:
    """Run one trial, then print its metrics and where they are."""
    options = parse(TrainOptions, arguments, command="train")
    return _run([single_trial(options.config())], options, (options.checked_seed(),), arguments, "train")


def report(arguments: Sequence[str]) -> int:
    """Draw every table and figure of a store again."""
    options = parse(ReportOptions, arguments, command="report")
    store = ResultStore.open(storage_location(options.storage, options.scale))
    experiments = store.experiments()
    if not experiments:
        print(f"{store.files.describe_path('')} holds no results yet; run an experiment first, such as table3")
        return 0
    trials = read_trials(store)
    for name in experiments:
        _print_report(store, name, trials)
    if paper_rows().keys() & set(experiments):
        _print_findings(store, _shown_command("report", options, store, arguments), trials)
    print(f"\n{draw_html_report(store, trials)}")
    return 0


def findings(arguments: Sequence[str]) -> int:
    """Judge the paper's claims by what a store has measured, and draw its page again."""
    options = parse(ReportOptions, arguments, command="findings")
    store = ResultStore.open(storage_location(options.storage, options.scale))
    known = paper_rows().keys() & set(store.experiments())
    if not known and store.files.read_bytes(SPEED_FILE) is None:
        place = store.files.describe_path("")
        print(f"{place} holds none of the paper's tables yet; run one first, such as table3")
        return 0
    trials = read_trials(store)
    _print_findings(store, _shown_command("findings", options, store, arguments), trials)
    print(f"\n{draw_html_report(store, trials)}")
    return 0


def _print_findings(store: ResultStore, command: str, trials: pd.DataFrame) -> None:
    drawn = draw_findings(store, paper_findings(), paper_rows(), command, trials)
    print(f"\n{drawn.table}")
    print("\n".join(drawn.paths))


def _shown_command(name: str, options: StoreOptions, store: ResultStore, arguments: Sequence[str]) -> str:
    """The command as it may stand in a table: a URI may carry credentials, which have no place there."""
    place = store.files.describe_path("").rstrip("/")
    is_uri = "://" in options.storage
    shown = [argument.replace(options.storage, place) if is_uri else argument for argument in arguments]
    return shlex.join(["python", "experiments/main.py", name, *shown])


def _run(
    experiments: Sequence[Experiment], options: RunOptions, seeds: Sequence[int], arguments: Sequence[str], command: str
) -> int:
    """Run what the store lacks of some experiments, as one grid; then draw each of them."""
    sets_workers = any("run.num_workers" in experiment.sets for experiment in experiments)
    base = options.config() if sets_workers else _for_this_machine(options)
    storage = storage_location(options.storage, options.scale)
    store = ResultStore.open(storage)
    if options.dry_run:
        for experiment in experiments:
            _print_plan(experiment, base, seeds)
            print_seeds(store, experiment)
        return 0
    if any(experiment.rows(base) for experiment in experiments):
        require_cluster()
        base = _with_data(base)
    shown = _shown_command(command, options, store, arguments)
    trials = _distinct_trials(experiments, base, seeds)
    plans = {_plan_name(experiment, trials): experiment.plan(base, seeds, shown) for experiment in experiments}
    for name, plan in plans.items():
        store.write_plan(name, plan)
    with _saying_where_it_goes_on(store, trials):
        if trials:
            _train_missing(trials, store, storage, command, longest_first=len(experiments) > 1)
        for name, plan in plans.items():
            # Another command may have replaced the plan. Plan, table and figures are those of the one that ends last.
            _print_report(store, name, plan=store.write_plan(name, plan))
        return _failures(store, list(trials))


def _plan_name(experiment: Experiment, trials: Mapping[str, tuple[str, str, TrialConfig]]) -> str:
    # Single trials have nothing to do with each other: each keeps a plan, a table and a figure of its own.
    return f"{experiment.name}_{next(iter(trials))}" if experiment.name == SINGLE_TRIAL else experiment.name


def _with_data(base: TrialConfig) -> TrialConfig:
    """The same with its data generated, checked and known by their fingerprint."""
    # Imported late: torch and Ray take seconds, and a wrong command should be refused at once.
    from dynrcnn_ray.data.prepare import images_to_generate, prepare_data

    if images := images_to_generate(base.data):
        print(f"Generating {images} images; this happens once.", flush=True)
    return dataclasses.replace(base, data=prepare_data(base.data, include_masks=base.model.has_masks))


def _distinct_trials(
    experiments: Sequence[Experiment], base: TrialConfig, seeds: Sequence[int]
) -> dict[str, tuple[str, str, TrialConfig]]:
    """Every trial once, by its id, with the experiment and the row that ask for it first."""
    trials: dict[str, tuple[str, str, TrialConfig]] = {}
    for experiment in experiments:
        for trial_id, (setting, config) in experiment.trials(base, seeds).items():
            trials.setdefault(trial_id, (experiment.name, setting, config))
    return trials


def _train_missing(
    trials: Mapping[str, tuple[str, str, TrialConfig]],
    store: ResultStore,
    storage: str,
    command: str,
    *,
    longest_first: bool,
) -> None:
    finished = store.finished_trials()
    missing = [trial for trial_id, trial in trials.items() if trial_id not in finished]
    place, done = store.files.describe_path("").rstrip("/"), len(trials) - len(missing)
    if not missing:
        print(f"{command}: nothing to train, all {done} trials are in {place}.")
        return
    from dynrcnn_ray.models.weights import read_backbone_weights

    for model in {config.model for _, _, config in missing}:
        read_backbone_weights(model)
    from dynrcnn_ray.orchestration.grid import PlannedTrial, run_trials

    if longest_first:
        # A long trial that starts last would leave all other places idle.
        missing.sort(key=lambda trial: place_seconds([trial[2]]), reverse=True)
    print(f"{command}: {len(missing)} trials to run, {done} already in {place}.", flush=True)
    planned = [PlannedTrial(config, experiment, setting) for experiment, setting, config in missing]
    commit = git_commit()
    say_if_unknown(commit)
    run_trials(planned, storage=storage, git_commit=commit)


@contextlib.contextmanager
def _saying_where_it_goes_on(store: ResultStore, trials: Mapping[str, tuple[str, str, TrialConfig]]) -> Iterator[None]:
    """Note on an interrupt what the same command goes on with."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(StoreError):
            interrupt.add_note(_where_it_goes_on(store, trials))
        raise


def _where_it_goes_on(store: ResultStore, trials: Mapping[str, tuple[str, str, TrialConfig]]) -> str:
    from dynrcnn_ray.orchestration.checkpoints import CheckpointFolder

    finished = store.finished_trials()
    missing = {trial_id: config for trial_id, (_, _, config) in trials.items() if trial_id not in finished}
    steps = {
        trial_id: CheckpointFolder(store.files, config.training_id).steps() for trial_id, config in missing.items()
    }
    begun = [f"trial {trial_id} from step {found[-1]}" for trial_id, found in steps.items() if found]
    fresh = len(missing) - len(begun)
    begun += [f"{fresh} from the start"] if fresh else []
    return (
        f"{len(trials) - len(missing)} of {len(trials)} trials are in {store.files.describe_path('').rstrip('/')}; "
        f"the same command goes on with {', '.join(begun) or 'the report'}"
    )


def _for_this_machine(options: RunOptions) -> TrialConfig:
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


def _print_plan(experiment: Experiment, base: TrialConfig, seeds: Sequence[int]) -> int:
    from dynrcnn_ray.data.coco import DataError
    from dynrcnn_ray.data.prepare import fingerprint

    try:
        found = fingerprint(base.data, include_masks=base.model.has_masks)
        base = dataclasses.replace(base, data=dataclasses.replace(base.data, fingerprint=found))
    except DataError as error:
        print(f"The data cannot be used, so the trial ids are not final: {error}")
    trials = experiment.trials(base, seeds)
    print(f"{experiment.name}, scale {base.scale}: {len(experiment.rows(base))} rows, {len(trials)} distinct trials")
    for trial_id, (setting, config) in trials.items():
        print(
            f"  {trial_id}  seed {config.seed}  {setting:<20}  {config.total_steps} steps of "
            f"{config.train.global_batch} images on {config.run.num_workers} workers"
        )
    return 0


def _print_report(
    store: ResultStore, experiment: str, trials: pd.DataFrame | None = None, plan: pd.DataFrame | None = None
) -> None:
    drawn = draw_report(store, experiment, trials, plan)
    print()
    if is_figure(experiment):
        print("\n".join(drawn.paths) or f"{experiment}: no finished trial has recorded what it shows")
        return
    print(drawn.table)
    print("\n".join(drawn.paths))
    if drawn.conclusion:
        print(f"\n{drawn.conclusion}")


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
