"""Evaluate a trained trial on any split, and write the results file that the COCO server takes.

It runs where trainings run: on the trial's workers and their GPUs, or on those that the section run asks for.
A split with annotations gives average precision as well. One without, such as test-dev2017, gives the file alone.

Command:  dynrcnn evaluate TRIAL [--split test-dev2017] [--data.root DIR] [--test.multi-scale]
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynrcnn_ray.config.sections import RunConfig, TestConfig
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.former import with_flags_of_today
from dynrcnn_ray.options.output import output_folder
from dynrcnn_ray.options.parsing import parse_options
from dynrcnn_ray.options.shared import StoredDataOptions
from dynrcnn_ray.tools.trained_trial import TrainedTrial, trained_trial


@dataclass(frozen=True)
class EvaluatedData(StoredDataOptions):
    """Where the split is, and how to take its data."""

    drop_invalid: bool = False
    """Leave out broken annotations and images, where the split would else be refused."""


@dataclass(frozen=True)
class EvaluateOptions(TrainedTrial):
    """Options of the command `evaluate`. The sections test and run start from the trial's own."""

    split: str = ""
    """The split; default: the trial's validation split."""
    output: Path = Path(".")
    """Folder of the results file."""
    test: TestConfig = field(default_factory=TestConfig)
    run: RunConfig = field(default_factory=RunConfig)
    data: EvaluatedData = field(default_factory=EvaluatedData)


def _of_the_trial(arguments: Sequence[str]) -> tuple[EvaluateOptions, Sequence[str]]:
    if {"-h", "--help"} & set(arguments):
        return EvaluateOptions(), arguments
    found = trained_trial(parse_options(EvaluateOptions, arguments))
    config = found.trial.config
    return EvaluateOptions(found=found.trial_id, test=config.test, run=config.run), arguments


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
    former=with_flags_of_today,
    defaults=_of_the_trial,
)
