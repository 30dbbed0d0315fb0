"""What the rows of a command start from: the options as a configuration that this machine can run, with its data."""

import dataclasses
import os
from collections.abc import Callable, Sequence

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.layout import with_absolute_paths
from dynrcnn_ray.data.prepare import fingerprint, images_to_generate, prepare_data
from dynrcnn_ray.execution.address import ray_address
from dynrcnn_ray.experiment.experiment import Experiment
from dynrcnn_ray.options.shared import RunOptions


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


def with_their_data(
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


def data_of_plan(experiments: Sequence[Experiment], config: TrialConfig) -> tuple[Trial, Sequence[Experiment], str]:
    """The base with the fingerprint of its data and the experiments, as a plan needs them; and what is wrong with them.

    Nothing is generated, and data that cannot be used leave a plan whose trial ids are not final.
    """
    try:
        return *with_their_data(experiments, config, _with_fingerprint), ""
    except DataError as error:
        return Trial(config), experiments, str(error)


def say_problem(problem: str) -> int:
    """Say what is wrong with a plan's data; returns the exit code: 2 where something is."""
    if problem:
        print(f"The data cannot be used, so the trial ids are not final: {problem}")
    return 2 if problem else 0


def _with_fingerprint(config: TrialConfig, masks: bool) -> Trial:
    return Trial(config, Inputs(data=fingerprint(config.data, include_masks=masks)))
