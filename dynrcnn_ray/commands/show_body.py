"""What the command `show` prints."""

from dynrcnn_ray.config.validation import to_yaml
from dynrcnn_ray.execution.stored_trial import stored_trial
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import TrialOptions


def show(options: TrialOptions, _call: Call) -> int:
    """Print the configuration as YAML."""
    print(to_yaml(stored_trial(options, options.trial).config), end="")
    return 0
