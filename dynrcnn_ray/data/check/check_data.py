"""What the command `check-data` does: checks a data set, and prints what is wrong with it and what it holds."""

import dataclasses

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.data.check.advice import advice, starting_values, summary
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.check.command import CheckOptions
from dynrcnn_ray.data.prepare import check_data, check_split, describe_dropped, generate_if_asked
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.progress import show_progress


def run_check_data(options: CheckOptions, call: Call) -> int:
    """Print what is wrong with a data set, and what it holds.

    Returns:
        The exit code: 0 if a run would take it, 2 if not.
    """
    base = base_config(options.scale)
    config = validate(dataclasses.replace(base, data=options.data))
    generate_if_asked(config.data)
    splits = check_data(config.data, include_masks=options.masks, decode=True, on_progress=_print_progress)
    usable = True
    for split, checked in splits.items():
        usable &= _print_faults(checked, drop_invalid=config.data.drop_invalid)
        if config.data.drop_invalid and checked.errors:
            print(*describe_dropped(checked)[:1])
        if checked.num_objects():
            print(f"{split}: {checked.file}")
            print(summary(split, checked))
        if split == config.data.train_split and checked.num_objects():
            print("".join([*advice(checked, config), *starting_values(checked, config, call)]), end="")
    print("A run would take this data set." if usable else "A run would refuse this data set.")
    return 0 if usable else 2


def check_one_more(root: str, split: str) -> bool:
    """Check a split that is for neither training nor validation, and print what it holds.

    Returns:
        Whether detections can be made and measured on it.
    """
    checked = check_split(root, split, on_progress=lambda done, total: _print_progress(split, done, total))
    usable = _print_faults(checked, drop_invalid=False)
    if checked.num_objects():
        print(f"{split}: {checked.file}")
        print(summary(split, checked))
    return usable


def _print_faults(checked: CheckedSplit, *, drop_invalid: bool) -> bool:
    """Print what was found; whether a run would go on with it."""
    usable = True
    for fault in checked.faults:
        dropped = drop_invalid and fault.can_be_dropped
        usable &= dropped or not fault.is_error
        print(f"{'error' if fault.is_error and not dropped else 'note'}: {fault}")
    return usable


def _print_progress(split: str, done: int, total: int) -> None:
    show_progress(f"{split}: {done}/{total} images read", is_last=done == total)
