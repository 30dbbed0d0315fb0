"""What the command `all` does: one grid of every table and figure, or its plan."""

from collections.abc import Mapping, Sequence

from dynrcnn_ray.config.scales import SCALES, Scale, base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.base import data_of_plan, say_problem
from dynrcnn_ray.execution.dry_run import print_what_does_not_fit
from dynrcnn_ray.execution.run import run_experiments
from dynrcnn_ray.execution.seeds import print_seeds_of_all
from dynrcnn_ray.execution.until_decided import UntilDecided, seeds_to_train, until_decided
from dynrcnn_ray.experiment.costs import PLACES, duration, place_seconds, wall_seconds
from dynrcnn_ray.experiment.experiment import Experiment, Seeds, distinct_trials
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import ExperimentOptions, storage_location
from dynrcnn_ray.paper.findings import paper_claims
from dynrcnn_ray.paper.paper import EXPERIMENTS
from dynrcnn_ray.report.table_text import simple_markdown
from dynrcnn_ray.store.results_store import ResultStore


def run_all(options: ExperimentOptions, call: Call) -> int:
    """Run the missing trials of every table and figure, then draw them."""
    until = until_decided(options, call, paper_claims())
    if options.dry_run:
        return _print_plan(EXPERIMENTS, options, until)
    return run_experiments(EXPERIMENTS, options, options.seeds, call, until).exit_code


def _print_plan(experiments: Sequence[Experiment], options: ExperimentOptions, until: UntilDecided | None) -> int:
    """Print the plan of `all`: every experiment's rows and new trials, then the time of each scale."""
    store = ResultStore.open(storage_location(options.storage, options.scale))
    finished, place = store.finished_trials(), store.files.place
    base, experiments, problem = data_of_plan(experiments, options.config())
    scale = base.config.scale
    seeds: Mapping[str, Seeds] = {each.name: options.seeds for each in experiments}
    told = f"seeds {', '.join(map(str, options.seeds))}"
    if until:
        seeds, told = seeds_to_train(store, experiments, base, until), "the seeds of the next look"
    print(f"Scale {scale}, {told}. A trial that several tables need runs once.\n")
    rows = []
    of_all = {each.name: distinct_trials([each], base, seeds) for each in experiments}
    distinct = {trial_id: trial for trials in of_all.values() for trial_id, trial in trials.items()}
    known = {trial_id: trial for trial_id, trial in distinct.items() if trial_id in finished}
    there = len(known)
    for experiment in experiments:
        trials = of_all[experiment.name]
        new = {trial_id: trial for trial_id, trial in trials.items() if trial_id not in known}
        cost = duration(wall_seconds([*known.values(), *new.values()], scale) - wall_seconds(known.values(), scale))
        known |= new
        stored = sum(trial_id in finished for trial_id in trials)
        numbers = [len(experiment.rows(base.config)), len(trials), stored, len(new)]
        rows.append([experiment.name, *map(str, numbers), cost])
    print(simple_markdown(["experiment", "rows", "trials", "stored", "new trials", "time"], rows))
    print(
        f"\nDistinct trials: {len(distinct)}, {there} of them in {place}. Time is an estimate for {PLACES[scale]} "
        f"{'GPUs' if base.config.run.gpu else 'CPU cores'}; table7 is timed apart (see its --help).\n"
    )
    # How many photographs somebody has is not known here.
    costs = [_cost(experiments, name, seeds) for name in SCALES if name != "photos"]
    print(simple_markdown(["scale", "trials", "time", "on", "GPU time"], costs))
    print_seeds_of_all(store, experiments)
    print("\nScale coco: from a throughput that dynrcnn_ray/experiment/costs.py assumes; none was measured on a GPU.")
    print_what_does_not_fit(trial.config.run for trial in distinct.values())
    return say_problem(problem)


def _cost(experiments: Sequence[Experiment], scale: Scale, seeds: Mapping[str, Seeds]) -> list[str]:
    base = Trial(base_config(scale))
    trials = distinct_trials(experiments, base, seeds)
    wall = duration(wall_seconds(trials.values(), scale))
    places = f"{PLACES[scale]} {'GPUs' if base.config.run.gpu else 'CPU cores'}"
    return [
        scale,
        str(len(trials)),
        wall,
        places,
        duration(place_seconds(trials.values())) if base.config.run.gpu else "-",
    ]
