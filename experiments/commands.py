"""What the commands do: plan, run what the store does not hold yet, draw the report."""

import contextlib
import dataclasses
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

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
    return _run(experiment, options, options.checked_seeds(), arguments)


def run_all(experiments: Sequence[Experiment], arguments: Sequence[str]) -> int:
    """Run the missing trials of every table and figure, each trial once."""
    options = parse(ExperimentOptions, arguments, command="all")
    for experiment in experiments:
        experiment.check_base(options.unchecked_config(), base_config(options.scale))
    if options.dry_run:
        return print_plan_of_all(experiments, options)
    codes = [_run(experiment, options, options.checked_seeds(), arguments, "all") for experiment in experiments]
    return max(codes)


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
    return _run(single_trial(options.config()), options, (options.checked_seed(),), arguments)


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
    experiment: Experiment,
    options: RunOptions,
    seeds: Sequence[int],
    arguments: Sequence[str],
    command_name: str = "",
) -> int:
    base = options.config() if "run.num_workers" in experiment.sets else _for_this_machine(options)
    if options.dry_run:
        code = _print_plan(experiment, base, seeds)
        print_seeds(ResultStore.open(storage_location(options.storage, options.scale)), experiment)
        return code
    if not experiment.rows(base):
        store = ResultStore.open(storage_location(options.storage, options.scale))
        _print_report(store, experiment.name, plan=store.write_plan(experiment.name, []))
        return 0
    require_cluster()
    # Imported late: torch and Ray take seconds, and a wrong command should be refused at once.
    from dynrcnn_ray.data.prepare import images_to_generate, prepare_data
    from dynrcnn_ray.models.weights import read_backbone_weights

    storage = storage_location(options.storage, options.scale)
    store = ResultStore.open(storage)
    if images := images_to_generate(base.data):
        print(f"Generating {images} images; this happens once.", flush=True)
    base = dataclasses.replace(base, data=prepare_data(base.data, include_masks=base.model.has_masks))
    place = store.files.describe_path("").rstrip("/")
    command = _shown_command(command_name or experiment.name, options, store, arguments)
    trials = experiment.trials(base, seeds)
    # Single trials have nothing to do with each other: each keeps a plan, a table and a figure of its own.
    plan_name = f"{experiment.name}_{next(iter(trials))}" if experiment.name == SINGLE_TRIAL else experiment.name
    plan = experiment.plan(base, seeds, command)
    store.write_plan(plan_name, plan)

    finished = store.finished_trials()
    missing = {trial_id: trials[trial_id] for trial_id in trials if trial_id not in finished}
    done = len(trials) - len(missing)
    with _saying_where_it_goes_on(store, trials):
        if missing:
            for model in {config.model for _, config in missing.values()}:
                read_backbone_weights(model)
            from dynrcnn_ray.orchestration.grid import PlannedTrial, run_trials

            print(f"{experiment.name}: {len(missing)} trials to run, {done} already in {place}.", flush=True)
            planned = [PlannedTrial(config, experiment.name, setting) for setting, config in missing.values()]
            run_trials(planned, storage=storage, git_commit=_git_commit())
        else:
            print(f"{experiment.name}: nothing to train, all {done} trials are in {place}.")
        # Another command may have replaced the plan. Plan, table and figures are those of the one that ends last.
        _print_report(store, plan_name, plan=store.write_plan(plan_name, plan))
        return _failures(store, list(trials))


@contextlib.contextmanager
def _saying_where_it_goes_on(store: ResultStore, trials: Mapping[str, tuple[str, TrialConfig]]) -> Iterator[None]:
    """Note on an interrupt what the same command goes on with."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(StoreError):
            interrupt.add_note(_where_it_goes_on(store, trials))
        raise


def _where_it_goes_on(store: ResultStore, trials: Mapping[str, tuple[str, TrialConfig]]) -> str:
    from dynrcnn_ray.orchestration.checkpoints import CheckpointFolder

    finished = store.finished_trials()
    missing = {trial_id: config for trial_id, (_, config) in trials.items() if trial_id not in finished}
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
        print(f"The data are not here, so the trial ids are not final: {error}")
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


def _git_commit() -> str:
    """The code's commit, marked if there are changes on top of it; `unknown` without git or outside a checkout."""
    repository = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"
