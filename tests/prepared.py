"""A configuration as the trial that a command makes of it."""

import dataclasses
from pathlib import Path

from dynrcnn_ray.config.trial import Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.prepare import fingerprint, prepare_data
from dynrcnn_ray.experiment.experiment import identified


def prepared(config: TrialConfig) -> Trial:
    """With its data and files known by their fingerprints; a root of generated images is that of a command's own.

    Images that are still to be generated stay so.
    """
    if not config.data.is_given:
        return identified(config)
    root = config.data.root
    generated = dataclasses.replace(config, data=dataclasses.replace(config.data, root=""))
    if root and Path(root).name == fingerprint(generated.data):
        return identified(generated, Inputs(data=Path(root).name, data_root=root))
    return identified(config, prepare_data(config.data, include_masks=config.model.has_masks).inputs)
