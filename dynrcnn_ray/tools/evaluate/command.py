"""Evaluate a trained trial on any split, and write the results file that the COCO server takes.

It runs where trainings run: on the trial's workers and their GPUs, or on those that the section run asks for.
A split with annotations gives average precision as well. One without, such as test-dev2017, gives the file alone.

Command:  dynrcnn evaluate --trial TRIAL_ID --split test-dev2017 [--test.multi-scale]
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynrcnn_ray.config.sections import CheckpointName, RunConfig, TestConfig
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.output import output_folder
from dynrcnn_ray.options.parsing import parse_first
from dynrcnn_ray.tools.trained_trial import TrainedTrial, trained_trial


@dataclass(frozen=True)
class EvaluatedData:
    """How to take the split's data."""

    drop_invalid: bool = False
    """Leave out broken annotations and images, where the split would else be refused."""


@dataclass(frozen=True)
class EvaluateOptions(TrainedTrial):
    """Options of the command `evaluate`. The sections test and run start from the trial's own."""

    split: str = ""
    """The split; default: the trial's validation split."""
    data_root: str = ""
    """The data set's folder; default: the trial's."""
    output: Path = Path(".")
    """Folder of the results file."""
    checkpoint: CheckpointName = "last"
    """The trial's last checkpoint; its best one, where it trained with --run.evaluate-checkpoints; or a step's."""
    test: TestConfig = field(default_factory=TestConfig)
    run: RunConfig = field(default_factory=RunConfig)
    data: EvaluatedData = field(default_factory=EvaluatedData)


def _of_the_trial(arguments: Sequence[str]) -> tuple[EvaluateOptions, Sequence[str]]:
    if {"-h", "--help"} & set(arguments):
        return EvaluateOptions(), arguments
    first, rest = parse_first(TrainedTrial, arguments)
    config = trained_trial(first).config
    return EvaluateOptions(first.storage, first.scale, first.trial, test=config.test, run=config.run), rest


def _check(options: EvaluateOptions, _call: Call) -> None:
    output_folder(options.output)


COMMAND = Command(
    name="evaluate",
    group="Use a detector",
    title="evaluate a trained trial on any split; write the COCO server's results file",
    description=__doc__ or "",
    options=EvaluateOptions,
    body="dynrcnn_ray.tools.evaluate.evaluate:evaluate_trial",
    check=_check,
    defaults=_of_the_trial,
)
