"""The command `train`: one trial."""

from dataclasses import dataclass

from dynrcnn_ray.command_line.command import Call, Command
from dynrcnn_ray.command_line.options import RunOptions, start_from_scale
from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.config_yaml import ConfigError
from dynrcnn_ray.experiment import SINGLE_TRIAL, Experiment, Row


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Options of the command `train`."""

    seed: int = 0
    """Seed of the initial weights, the data order, the flips and the RoI sampling."""


def train_one(options: TrainOptions, call: Call) -> int:
    """Run one trial, then print its metrics and where they are."""
    config = options.config()
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed} must be 0 or greater")
    from dynrcnn_ray.command_line.running import run_experiments

    return run_experiments([single_trial(config)], options, (options.seed,), call)


_MASK_COLUMNS = tuple(f"segm_{name}" for name in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"))


def single_trial(config: TrialConfig) -> Experiment:
    """One trial as a table of one row."""
    from dynrcnn_ray.results.schemas import METRICS

    return Experiment(
        name=SINGLE_TRIAL,
        anchor="One trial",
        title=f"{config.model.name} with the given configuration",
        metrics=(*METRICS, *_MASK_COLUMNS) if config.model.has_masks else METRICS,
        sets=(),
        rows=lambda base: [Row(labels={"Setting": "trial"}, config=base, reported={})],
    )


COMMAND = Command(
    name="train",
    title="train one trial",
    description="Train and evaluate one trial; any field of its configuration can be set.",
    options=TrainOptions,
    run=train_one,
    defaults=start_from_scale(TrainOptions),
)
