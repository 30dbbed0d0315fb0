"""The command `show`: the configuration of a stored trial, as a file to start from again."""

from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.former import with_flags_of_today
from dynrcnn_ray.options.shared import TrialOptions, check_trial_is_named


def _check(options: TrialOptions, _call: Call) -> None:
    check_trial_is_named(options.trial)


COMMAND = Command(
    name="show",
    group="Look at results",
    title="a stored trial's configuration, as a file for `train --config`",
    description="Print a stored trial's configuration as YAML. `train --config FILE` starts from it.",
    options=TrialOptions,
    body="dynrcnn_ray.commands.show_body:show",
    check=_check,
    former=with_flags_of_today,
)
