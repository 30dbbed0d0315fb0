"""What the command `list` prints."""

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import ScaleOption
from dynrcnn_ray.paper.paper import BESIDE, EXPERIMENTS


def list_experiments(options: ScaleOption, _call: Call) -> int:
    """Print them, with the number of trials at a scale."""
    base = base_config(options.scale)
    all_trials: set[str] = set()
    print(f"{'command':<11}  {'in the paper':<20}  {'rows':>4}  {'distinct trials':>15}  shows")
    for experiment in (*EXPERIMENTS, *BESIDE):
        rows, trials = experiment.rows(base), experiment.trials(Trial(base), seeds=(0,))
        all_trials |= trials.keys()
        print(
            f"{experiment.name:<11}  {experiment.reference:<20}  {len(rows):>4}  {len(trials):>15}  {experiment.title}"
        )
    print(f"\n{len(all_trials)} distinct trials in all: a trial that several tables need runs once in a storage.")
    return 0
