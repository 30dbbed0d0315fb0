"""Make the pretrained weights of `tiny` and `small`, with which scale `mini` starts as the paper does with ImageNet's.

Each is the body of a Faster R-CNN, without pyramid and heads, that trained without dynamic parts on generated images.
No trial sees these images: every image is drawn from (data.shapes.seed, split, index), pretraining has the seed 4242 to
itself, and a trial with this seed and such weights is refused. Initial weights and data order come from that seed too.

**How long, and why.** What counts is the paper's regime, not what dynamic training gains: T_now above 0.5 within the
first sixth of a run, and an AP50 within a point or two of where it ends after twice the steps. Rows of Table 3 with
`tiny`, seed 0, one worker:

| pretraining | row | T_now at step 80, 100 | AP50 after 600 steps | after 1200 | difference |
|---|---|---|---|---|---|
| 600 steps | baseline | 0.499, 0.520 | 86.7 | 89.4 | 2.7 |
| 600 steps | DLA + DSL | 0.497, 0.517 | 85.3 | 89.5 | 4.2 |
| 2400 steps | baseline | 0.495, 0.515 | 90.3 | 92.1 | 1.8 |
| 2400 steps | DLA + DSL | 0.495, 0.512 | 90.2 | not measured | |

600 steps, as long as a trial, leave too much of AP50 to the trial; after 2400 the baseline meets both demands, so they
were chosen. Nothing in between was tried. (The rows of 600 steps are of earlier code, which trained on images without
objects too.) Classifying cropped shapes, which is nearer to ImageNet, was tried in a prototype: the baseline ended at
AP 51.8, below its 56.0 from scratch.

Writes `tiny.npz`, `small.npz` and `made_by.json`: the command, commit, seeds and versions that made them, and their
fingerprints. The package's own are in dynrcnn_ray/models/pretrained; others are used by --model.weights FILE.

Cost: 20 minutes at scale mini on two CPU cores that had other work too.

Command:  dynrcnn pretrain [--scale smoke|mini] [--steps N] [--output DIR]
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.output import output_folder

BACKBONES = ("tiny", "small")
FILES = (*(f"{backbone}.npz" for backbone in BACKBONES), "made_by.json")
"""What is written."""


@dataclass(frozen=True)
class PretrainOptions:
    """Options of the command `pretrain`."""

    scale: Literal["smoke", "mini"] = "mini"
    """The size of data and schedule."""
    steps: int = 0
    """Training steps. 0: four times those of the scale's trials."""
    output: Path = Path("pretrained")
    """Folder of the weights."""
    dry_run: bool = False
    """Only say what would run."""


def _check(options: PretrainOptions, _call: Call) -> None:
    if options.steps < 0:
        raise ConfigError(f"--steps: {options.steps} must be 0 or greater")
    output_folder(options.output, FILES)


COMMAND = Command(
    name="pretrain",
    group="For developers",
    title="make the backbones' weights that scale mini starts from",
    description=__doc__ or "",
    options=PretrainOptions,
    body="dynrcnn_ray.tools.pretrain.pretrain:run_pretrain",
    check=_check,
)
