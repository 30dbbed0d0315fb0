"""What the command `train` does: one trial as a table of one row."""

import shlex

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.run import run_experiments
from dynrcnn_ray.execution.train_command import TrainOptions
from dynrcnn_ray.experiment.experiment import SINGLE_TRIAL, Experiment, Row
from dynrcnn_ray.options.command import PROGRAM_NAME, Call
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.metrics import METRICS

_MASK_COLUMNS = tuple(f"segm_{name}" for name in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"))


def train_one(options: TrainOptions, call: Call) -> int:
    """Run one trial, then print its metrics, where they are, and how to detect with it."""
    outcome = run_experiments([single_trial(options.config())], options, (options.seed,), call)
    if outcome.trial_ids and not outcome.exit_code:
        (trial_id,) = outcome.trial_ids
        storage = shlex.quote(storage_location(options.storage, options.scale))
        print(f"\nDetect with it: {PROGRAM_NAME} predict {trial_id} --storage {storage} --images PICTURES")
    return outcome.exit_code


def single_trial(config: TrialConfig) -> Experiment:
    """One trial as a table of one row."""
    return Experiment(
        name=SINGLE_TRIAL,
        reference="One trial",
        title=f"{config.model.name} with the given configuration",
        metrics=(*METRICS, *_MASK_COLUMNS) if config.model.has_masks else METRICS,
        overrides=(),
        rows=lambda base: [Row(labels={"Setting": "trial"}, config=base, reported={})],
    )
