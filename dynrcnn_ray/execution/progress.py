"""Progress of a grid: a line whenever a trial starts, reports or ends."""

import signal
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.failures import for_lack_of_memory, last_end
from dynrcnn_ray.execution.job import Job
from dynrcnn_ray.execution.tune_private import Trial

_STEPS_OF_A_RUN = 100
"""A run of fewer is a test's, and a line for each of its rows would be most of what it prints."""


class ProgressLines(Callback):
    """Prints one line per event, the same in a terminal and in a job's log."""

    def __init__(self, num_trials: int, jobs: Mapping[str, Job]) -> None:
        """Count trials out of so many.

        Args:
            num_trials: all that will run.
            jobs: what each does, by its trial's id, which is its parameter `trial`; it may grow.
        """
        self._num_trials = num_trials
        self._jobs = jobs
        self._names: dict[str, str] = {}
        self._configs: dict[str, TrialConfig] = {}
        self._step_seconds: dict[str, list[float]] = {}
        self._halves: dict[str, int] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Name the trial and say that it starts; `on_trial_recover` has said so of one that starts again."""
        if trial.trial_id in self._configs:
            return
        job = self._jobs[trial.config["trial"]]
        self._configs[trial.trial_id] = job.config
        self._print(trial, job.starts)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Show a row of the dynamics, a note, or how the trial ended."""
        if "ending" in result:
            finished = result["ending"] == "finished"
            self._print(trial, "done" if finished else f"failed: {result['ending']}")
        if "note" in result:
            self._print(trial, result["note"])
        if "loss" not in result:
            return
        config = self._configs[trial.trial_id]
        total = config.total_steps
        if not self._is_shown(trial, int(result["step"]), total):
            return
        dynamics = (
            f"T_now {result['T_now']:.3f}  beta_now {result['beta_now']:.3f}  "
            f"positives/image {result['positives']:.1f}  "
        )
        self._print(
            trial,
            f"step {result['step']:>{len(str(total))}}/{total}  loss {result['loss']:.3f}  "
            f"{'' if config.model.is_one_stage else dynamics}{result['images_per_second']:.1f} images/s  "
            f"{self._time_left(trial, result)}",
        )

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say that a scheduler has ended the trial, which has not reported an end itself."""
        if "ending" not in trial.last_result:
            self._print(trial, f"stopped early, at step {trial.last_result.get('step')}")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say that the driver has ended and Tune takes another."""
        last = last_end(Path(trial.error_file).read_text()) if trial.error_file else ""
        self._print(trial, f"its process ended{for_lack_of_memory(last)}; starts again in a new one")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say that the driver itself ended without a row."""
        is_training = self._jobs[trial.config["trial"]].trains
        goes_on = " to go on from the last checkpoint" if is_training else ""
        self._print(trial, f"its driver failed; run the same command again{goes_on}")

    def _is_shown(self, trial: Trial, step: int, total: int) -> bool:
        """Whether a row gets a line: of a run that takes seconds, only the first one of each half."""
        half = 2 * step // total
        is_new = half != self._halves.get(trial.trial_id, 0)
        self._halves[trial.trial_id] = half
        return is_new or total >= _STEPS_OF_A_RUN

    def _time_left(self, trial: Trial, row: dict[str, Any]) -> str:
        """Estimated from the speed of all rows so far, as the workers measured it."""
        config = self._configs[trial.trial_id]
        steps_left = config.total_steps - int(row["step"])
        if not steps_left:
            return "evaluating"
        rows = self._step_seconds.setdefault(trial.trial_id, [])
        rows.append(config.train.global_batch / row["images_per_second"])
        seconds = round(statistics.median(rows) * steps_left)
        return f"left {seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"left {seconds}s"

    def _name(self, trial: Trial) -> str:
        """Its number in the order in which trials are first heard of: a driver may die before its trial starts."""
        if trial.trial_id not in self._names:
            job = self._jobs[trial.config["trial"]]
            label = f"{job.setting}, seed {job.config.seed}"
            self._names[trial.trial_id] = f"[{len(self._names) + 1}/{self._num_trials}] {label:<20}"
        return self._names[trial.trial_id]

    def _print(self, trial: Trial, text: str) -> None:
        try:
            print(f"{self._name(trial)} {text}", flush=True)
        except BrokenPipeError as error:
            # Nobody reads on. No Exception, which Tune would turn into one of its own.
            raise KeyboardInterrupt(signal.SIGPIPE) from error
        except OSError:
            # Such as a log on a full disk: no reason to end what trains for hours.
            pass
