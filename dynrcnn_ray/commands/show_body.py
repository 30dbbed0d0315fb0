"""What the command `show` prints."""

from dynrcnn_ray.commands.show import ShowOptions
from dynrcnn_ray.config.trial_config import as_given
from dynrcnn_ray.config.validation import to_yaml
from dynrcnn_ray.execution.stored_trial import stored_config
from dynrcnn_ray.options.command import Call


def show(options: ShowOptions, _call: Call) -> int:
    """Print the configuration as YAML."""
    print(to_yaml(as_given(stored_config(options, options.trial))), end="")
    return 0
