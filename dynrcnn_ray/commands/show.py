"""The command `show`: the configuration of a stored trial, as a file to start from again."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from dynrcnn_ray.config.validation import ConfigError, to_yaml
from dynrcnn_ray.execution.stored_trial import stored_trial
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import StoredOptions


@dataclass(frozen=True)
class ShowOptions(StoredOptions):
    """Options of the command `show`."""

    trial: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL")] = ""
    """Id of a trial: a row of `trials` in the storage."""


def show(options: ShowOptions, _call: Call) -> int:
    """Print the configuration as YAML."""
    if not options.trial:
        raise ConfigError("trial: missing; give the id of a trial, from the column trial_id of `trials`")
    print(to_yaml(stored_trial(options, options.trial).config), end="")
    return 0


COMMAND = Command(
    name="show",
    group="Look at results",
    title="a stored trial's configuration, as a file for `train --config`",
    description="Print a stored trial's configuration as YAML. `train --config FILE` starts from it.",
    options=ShowOptions,
    run=show,
)
