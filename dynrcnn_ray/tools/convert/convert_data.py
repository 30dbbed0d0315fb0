"""What the command `convert-data` does: converts a data set, then checks it."""

import shlex
from pathlib import Path

from dynrcnn_ray.execution.check_body import check_one_more, run_check_data
from dynrcnn_ray.execution.check_command import COMMAND
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.parsing import parse
from dynrcnn_ray.tools.convert.command import ConvertOptions
from dynrcnn_ray.tools.convert.convert import convert_to_coco


def convert_data(options: ConvertOptions, call: Call) -> int:
    """Convert a data set, then check it.

    Returns:
        The exit code: 0 if a run would take it, 2 if not.
    """
    assert options.output is not None, "the command has checked it"
    folder, out = (Path(path).expanduser().absolute() for path in (options.folder, options.output))
    counts = convert_to_coco(folder, out)
    print(f"{out}: {', '.join(f'{count} images of {split}' for split, count in counts.items())}")
    usable = True
    one_split = "" if "val" in counts else " --data.val-fraction 0.2"
    if "train" in counts:
        arguments = ("--data.root", str(out), *one_split.split())
        _, checked = parse(call.program, [COMMAND.name, *arguments])
        usable = run_check_data(checked, Call(COMMAND.name, arguments, call.program)) == 0
    for split in counts:
        if split == "test" or "train" not in counts:
            usable &= check_one_more(str(out), split)
    place = shlex.quote(str(out))
    if "train" in counts:
        print(f"To train on it: --data.root {place}{one_split}")
    else:
        command = f"evaluate TRIAL --data.root {place} --split {next(iter(counts))}"
        print(f"It has no split to train on. To measure on it: {command}")
    return 0 if usable else 2
