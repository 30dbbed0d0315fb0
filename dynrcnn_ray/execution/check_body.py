"""What the command `check-data` does: says what is wrong with a data set, what it holds, and what would suit it."""

import shlex
from collections.abc import Collection, Sequence

import torch

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.check.advice import rank_lines, ranks_to_try, summary
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.check.object_sizes import size_lines
from dynrcnn_ray.data.prepare import check_data, check_split, describe_dropped, generate_if_asked, ready_to_read
from dynrcnn_ray.execution.check_command import CheckOptions
from dynrcnn_ray.options.command import PROGRAM_NAME, Call
from dynrcnn_ray.options.progress import show_progress
from dynrcnn_ray.training.expected_time import time_lines

_PASSES = 12
"""Passes over the images in a training: the paper's 90k steps are as many over COCO."""
_FEWEST_STEPS = 500
_OF_THIS_COMMAND = ("--masks", "--no-masks", "--dry-run", "--no-dry-run")
"""Flags that `train` and `grid` do not take over."""
_OF_ONE_TRIAL = ("--seed", "--from", "--storage", *_OF_THIS_COMMAND)


def run_check_data(options: CheckOptions, call: Call) -> int:
    """Print what is wrong with a data set, what it holds, and what of it the trial would see.

    Returns:
        The exit code: 0 if a run would take it, 2 if not.
    """
    config = options.config()
    masks = options.masks or config.model.has_masks
    generate_if_asked(config.data)
    splits = check_data(config.data, include_masks=masks, decode=True, on_progress=_print_progress)
    usable, commands = True, ""
    for split, checked in splits.items():
        usable &= _print_faults(checked, drop_invalid=config.data.drop_invalid)
        if config.data.drop_invalid and checked.errors:
            print(*describe_dropped(checked)[:1])
        if checked.num_objects():
            print(f"{split}: {checked.file}")
            print(summary(split, checked))
        if split == config.data.train_split and checked.num_objects():
            lines, flags = _advice(checked, config)
            print("".join(lines), end="")
            commands = _commands(checked, config, call.arguments, flags)
    if usable:
        print(_time(config, splits, include_masks=masks), end="")
    print("A run would take this data set." if usable else "A run would refuse this data set.")
    # Last, where it is found on a screen that has scrolled.
    print(commands, end="")
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


def _advice(checked: CheckedSplit, config: TrialConfig) -> tuple[list[str], dict[str, list[str]]]:
    """Lines on what of the training split will be seen, and the flags of all that would suit it better."""
    counts = checked.objects_per_image
    lines, flags = size_lines(checked.objects, config)
    if not config.model.is_one_stage:
        of_ranks, rank_flags = rank_lines(counts, config)
        lines, flags = lines + of_ranks, flags | rank_flags
    if config.scale == "photos":
        flags |= _of_photos(config, int((counts > 0).sum()))
    return lines, flags


def _commands(checked: CheckedSplit, config: TrialConfig, arguments: Sequence[str], flags: dict[str, list[str]]) -> str:
    """The commands that train with some flags and that try other ranks; empty without flags."""
    if not flags:
        return ""
    lines = [
        "To train with all that suits it better, or by check-data to see how long that takes:\n"
        f"  {PROGRAM_NAME} train {_with(arguments, flags, _OF_THIS_COMMAND)}\n"
    ]
    if "--dynamic.iou-top-k" in flags:
        ranks = ranks_to_try(int(flags["--dynamic.iou-top-k"][0]), checked.objects_per_image, config)
        others = {flag: values for flag, values in flags.items() if flag != "--dynamic.iou-top-k"}
        lines.append(
            "To try other ranks:\n"
            f"  {PROGRAM_NAME} grid --name my_k_i --axis dynamic.iou-top-k "
            f"{' '.join(map(str, ranks))} --baseline dynamic.dla=false dynamic.dsl=false --seeds 0 1 2 "
            f"{_with(arguments, others, (*_OF_ONE_TRIAL, '--dynamic.iou-top-k'))}\n"
        )
    return "".join(lines)


def _of_photos(config: TrialConfig, images: int) -> dict[str, list[str]]:
    """The flags of a training at scale `photos` that its number of images and this machine decide."""
    flags: dict[str, list[str]] = {}
    base = base_config("photos")
    if config.train.steps == base.train.steps:
        steps = max(_FEWEST_STEPS, 100 * round(_PASSES * images / config.train.reference_batch / 100))
        flags["--train.steps"] = [str(steps)]
    if torch.cuda.is_available() and config.run == base.run:
        flags |= {"--num-workers": ["1"], "--run.gpu": ["1"], "--run.loader-workers": ["4"]}
    return flags


def _with(arguments: Sequence[str], flags: dict[str, list[str]], without: Collection[str]) -> str:
    """The call's own flags with others in place of theirs, as they are typed."""
    kept: list[str] = []
    is_kept = True
    for each in arguments:
        if each.startswith("--"):
            is_kept = each.partition("=")[0].replace("_", "-") not in (*flags, *without)
        if is_kept:
            kept.append(each)
    return shlex.join([*kept, *(part for flag, values in flags.items() for part in (flag, *values))])


def _time(config: TrialConfig, splits: dict[str, CheckedSplit], *, include_masks: bool) -> str:
    """How long a training takes here, as far as some steps tell."""
    try:
        return f"{time_lines(config, ready_to_read(config.data, splits, include_masks=include_masks).inputs)}\n"
    except DataError as error:
        return f"time: not measured: {error}\n"


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
