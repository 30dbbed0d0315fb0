"""The command `search`: the best values of some fields, found on a part of the training split that is kept out.

  dynrcnn search --name ki --range dynamic.iou-top-k 32 256 --range train.learning-rate 0.002 0.05
                 --log train.learning-rate --trials 20 --baseline dynamic.dla=false dynamic.dsl=false --seeds 0 1 2

Optuna's TPE, under Ray Tune, suggests trials. Each trains on the training split without the part --holdout, and its AP
on that part judges it: the validation split is never searched on. At the end the winner and the baseline train on the
whole training split, over --seeds, and a table compares them on the validation split. The same command again goes on
where a search has stopped; with more --trials it goes further.

--asha stops trials that do badly at their checkpoints. The learning rate falls in steps, late in a training: a trial
that leads before need not lead after, so early AP is a poor judge. Leave it out where the trials are affordable.
"""

from dataclasses import dataclass

import tyro

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.search_space import space_of_flags, trial_at
from dynrcnn_ray.experiment.sweep import check_name, fields_of_flags
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import RunOptions, checked_seeds, start_from_base


@dataclass(frozen=True)
class SearchOptions(RunOptions):
    """Options of the command `search`."""

    name: str = ""
    """The search's name: its table in the store has it, its trials are those of NAME_search."""
    range: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A field and its range: FIELD LOW HIGH."""
    log: tuple[str, ...] = ()
    """Fields whose range is searched by its logarithm."""
    choice: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A field and the values to choose from: FIELD VALUE VALUE ..."""
    trials: int = 20
    """How many trials the search has in all."""
    holdout: float = 0.2
    """The share of the training split that is kept out of the search's trainings, to judge them."""
    baseline: tuple[str, ...] = ()
    """What the winner is compared with: FIELD=VALUE on top of the base. Default: the base itself."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the winner and the baseline at the end; the search's own trials have the first."""
    search_seed: int = 0
    """Seed of the suggestions."""
    asha: bool = False
    """Stop trials early that do badly at their checkpoints (see above)."""


def _check(options: SearchOptions, call: Call) -> None:
    checked_seeds(options.seeds)
    base = options.config()
    check_name(options.name, call.program.table_names())
    space_of_flags(options.range, options.log, options.choice, base)
    trial_at(Trial(base), fields_of_flags(options.baseline))
    if options.trials < 1:
        raise ConfigError(f"--trials: {options.trials} must be 1 or greater")
    if not 0 < options.holdout < 1:
        raise ConfigError(f"--holdout: {options.holdout} must be between 0 and 1")


COMMAND = Command(
    name="search",
    group="Your own experiment",
    title="find the best values of some fields, on a part of the training split (Optuna's TPE)",
    description=__doc__ or "",
    options=SearchOptions,
    body="dynrcnn_ray.execution.search_body:search_and_compare",
    check=_check,
    defaults=start_from_base(SearchOptions),
)
