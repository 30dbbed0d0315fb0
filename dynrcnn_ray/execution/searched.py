"""What a search varies, and what is already there of it."""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.layout import find_split
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.execution.base import base_for_this_machine, with_data
from dynrcnn_ray.execution.search import STOPPED_EARLY
from dynrcnn_ray.execution.search_command import SearchOptions
from dynrcnn_ray.experiment.experiment import field_value, identified
from dynrcnn_ray.experiment.search_space import Space, holds, trial_at
from dynrcnn_ray.store.results_store import ResultStore

_HELD_OUT = "held_out"


def searched(options: SearchOptions, space: Space, seed: int) -> Trial:
    """What the search's trials vary, with its data."""
    config = base_for_this_machine(options)
    if options.asha:
        _check_early_stopping(config)
    choices = space.get("model.name")
    names = choices if isinstance(choices, tuple) else (config.model.name,)
    masks = any(dataclasses.replace(config.model, name=name).has_masks for name in names)
    base = with_part_kept_out(with_data(config, masks), options.holdout, masks=masks)
    run = dataclasses.replace(config.run, evaluate_checkpoints=options.asha)
    return dataclasses.replace(base, config=dataclasses.replace(base.config, seed=seed, run=run))


def with_their_models(base: Trial, space: Space, of_baseline: Mapping[str, Any]) -> list[Trial]:
    """Trials whose models are asked for before the search: the base, the baseline, and those of the space's files."""
    trials = [identified(base.config, base.inputs), trial_at(base, of_baseline)]
    choices = {path: values for path, values in space.items() if isinstance(values, tuple)}
    if choices.keys() & {"model.weights", "model.detector_weights", "model.module"}:
        of_model = {path: values for path, values in choices.items() if path.startswith("model.")}
        for values in itertools.product(*of_model.values()):
            with contextlib.suppress(ConfigError):  # The search leaves out what does not go together.
                trials.append(trial_at(base, dict(zip(of_model, values, strict=True))))
    return trials


def _check_early_stopping(base: TrialConfig) -> None:
    if not base.run.is_local:
        # Ray frees the workers of a trial that is stopped through its dashboard, which does not run.
        raise ConfigError("--asha: stops trials of one worker alone; add --num-workers 1")
    if base.run.checkpoint_every >= base.total_steps:
        raise ConfigError(
            f"--asha: judges trials at their checkpoints, and there is none before the last of {base.total_steps} "
            f"steps; lower --run.checkpoint-every, which is {base.run.checkpoint_every}"
        )


def with_part_kept_out(base: Trial, share: float, *, masks: bool) -> Trial:
    """The same, with a part of the training split as its validation split."""
    files = find_split(base.inputs.data_root, base.config.data.train_split)
    data = dataclasses.replace(
        base.config.data,
        root="",
        train_annotations=str(files.annotations),
        train_images=str(files.images),
        val_annotations="",
        val_images="",
        val_split=_HELD_OUT,
        val_fraction=share,
    )
    return Trial(dataclasses.replace(base.config, data=data), prepare_data(data, include_masks=masks).inputs)


@dataclass(frozen=True)
class SoFar:
    """What an earlier call has left of a search.

    Attributes:
        finished: AP of the trials that have finished, by their id.
        stopped: AP of those that were stopped early, at their last logged checkpoint.
        interrupted: those that have begun, and not ended.
    """

    finished: dict[str, float]
    stopped: dict[str, float | None]
    interrupted: list[Trial]

    @property
    def known(self) -> dict[str, float | None]:
        """AP of all that have ended, by their id."""
        return {**self.finished, **self.stopped}


def trials_so_far(store: ResultStore, name: str, base: Trial, space: Space) -> SoFar:
    """The search's trials of this base, whose other fields are the same, at points of the space."""
    so_far = SoFar({}, {}, [])
    plan = store.plan(name)
    columns = ["trial_id", "status", "error", "AP", "config"]
    rows = [] if plan is None else store.trials_so_far(plan["trial_id"].dropna(), columns).to_dict("records")
    for row in rows:
        config, trial_id = store.trial_of(row).config, row["trial_id"]
        if not holds(space, config):
            continue
        here = trial_at(base, {path: field_value(config, path) for path in space})
        if here.trial_id != trial_id:
            continue
        if row["status"] == "finished":
            so_far.finished[trial_id] = float(row["AP"] or 0.0)
        elif row["error"] == STOPPED_EARLY:
            logged = store.dynamics([trial_id], ["trial_id", "AP"])["AP"].dropna()
            so_far.stopped[trial_id] = None if logged.empty else float(logged.iloc[-1])
        elif row["status"] in ("running", "stalled"):
            so_far.interrupted.append(here)
    return so_far
