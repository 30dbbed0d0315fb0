"""Progress of a grid: a line whenever a trial starts, reports or ends; on a terminal one a trial that is renewed."""

import contextlib
import signal
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ray.tune import Callback

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.failures import for_lack_of_memory, last_end
from dynrcnn_ray.execution.job import Job
from dynrcnn_ray.execution.terminal import TerminalLines
from dynrcnn_ray.execution.tune_private import Trial
from dynrcnn_ray.experiment.costs import place_seconds

_STEPS_OF_A_RUN = 100
"""A run of fewer is a test's, and a line for each of its rows would be most of what it prints."""

_SHARE_OF_TRAINING = 0.97
"""Of a trial on the grid's bar; its evaluation is the rest."""


class ProgressLines(Callback):
    """Prints one line per event; used as a context, in which a terminal has lines that are renewed instead."""

    def __init__(
        self,
        num_trials: int,
        jobs: Mapping[str, Job],
        after_trial: Callable[[str], Iterable[str]] = lambda trial_id: (),
    ) -> None:
        """Count trials out of so many.

        Args:
            num_trials: all that will run.
            jobs: what each does, by its trial's id, which is its parameter `trial`; it may grow.
            after_trial: what to print when a trial has finished, given its id.
        """
        self._num_trials = num_trials
        self._jobs = jobs
        self._after_trial = after_trial
        self._names: dict[str, str] = {}
        self._configs: dict[str, TrialConfig] = {}
        self._step_seconds: dict[str, list[float]] = {}
        self._halves: dict[str, int] = {}
        self._shares: dict[str, float] = {}
        self._terminal: TerminalLines | None = None

    def __enter__(self) -> Self:
        """Renew lines from now on, where the output is a terminal."""
        if TerminalLines.fit_here():
            self._terminal = TerminalLines(self._num_trials).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        if self._terminal:
            terminal, self._terminal = self._terminal, None
            with _whatever_becomes_of_the_output():
                terminal.__exit__(kind, error, trace)

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its callbacks down when a grid begins, and nobody reads them again; a terminal stays here."""
        return {**vars(self), "_terminal": None, "_after_trial": None}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Name the trial and say that it starts; `on_trial_recover` has said so of one that starts again."""
        if trial.trial_id in self._configs:
            return
        job = self._jobs[trial.config["trial"]]
        self._configs[trial.trial_id] = job.config
        self._say(trial, job.starts)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Show a row of the dynamics, a note, or how the trial ended."""
        if "ending" in result:
            finished = result["ending"] == "finished"
            self._end(trial, "done" if finished else f"failed: {result['ending']}")
            if finished:
                for text in self._after_trial(trial.config["trial"]):
                    self._put(text)
        if "note" in result:
            self._print(trial, result["note"])
        if "progress" in result:
            self._say(trial, result["progress"])
        if "loss" in result:
            self._show_row(trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say that a scheduler has ended the trial, which has not reported an end itself."""
        if "ending" not in trial.last_result:
            self._end(trial, f"stopped early, at step {trial.last_result.get('step')}")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say that the driver has ended and Tune takes another."""
        last = last_end(Path(trial.error_file).read_text()) if trial.error_file else ""
        self._print(trial, f"its process ended{for_lack_of_memory(last)}; starts again in a new one")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say that the driver itself ended without a row."""
        is_training = self._jobs[trial.config["trial"]].trains
        goes_on = " to go on from the last checkpoint" if is_training else ""
        self._end(trial, f"its driver failed; run the same command again{goes_on}")

    def _show_row(self, trial: Trial, row: dict[str, Any]) -> None:
        config = self._configs[trial.trial_id]
        step, total = int(row["step"]), config.total_steps
        at = f"{step:>{len(str(total))}}/{total}  loss {row['loss']:.3f}  "
        if self._terminal:
            t_now = "" if config.model.is_one_stage else f"T_now {row['T_now']:.3f}  "
            left = self._time_left(trial, row)
            self._renew_grid(trial, _SHARE_OF_TRAINING * step / total)
            self._say(trial, f"{at}{t_now}{row['images_per_second']:.1f} images/s  {left}")
            return
        if not self._is_shown(trial, step, total):
            return
        dynamics = f"T_now {row['T_now']:.3f}  beta_now {row['beta_now']:.3f}  positives/image {row['positives']:.1f}  "
        self._print(
            trial,
            f"step {at}{'' if config.model.is_one_stage else dynamics}{row['images_per_second']:.1f} images/s  "
            f"{self._time_left(trial, row)}",
        )

    def _renew_grid(self, trial: Trial, share: float) -> None:
        """The grid is at the sum of its trials, each weighed by what it costs; those to come cost the mean."""
        if not self._terminal:
            return
        self._shares[trial.config["trial"]] = share
        costs = {name: place_seconds([self._jobs[name].trial]) for name in self._shares}
        done = sum(costs[name] * share for name, share in self._shares.items())
        of_all = sum(costs.values()) * self._num_trials / len(costs)
        ended = sum(share == 1 for share in self._shares.values())
        self._terminal.grid_is_at(ended, done / of_all)

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

    def _short_name(self, trial: Trial) -> str:
        """Its name without a seed that all trials have."""
        number = self._name(trial).partition(" ")[0]
        job = self._jobs[trial.config["trial"]]
        seed = f", seed {job.config.seed}" if len({each.config.seed for each in self._jobs.values()}) > 1 else ""
        return f"{number} {job.setting}{seed}"

    def _say(self, trial: Trial, text: str) -> None:
        """Say what a trial does now: a line that the next one takes the place of, where that can be."""
        if self._terminal:
            with _whatever_becomes_of_the_output():
                self._terminal.show(trial.trial_id, self._short_name(trial), text)
        else:
            self._print(trial, text)

    def _end(self, trial: Trial, text: str) -> None:
        """Say how a trial ended, for good."""
        if self._terminal:
            self._terminal.end(trial.trial_id)
            self._renew_grid(trial, 1)
        self._print(trial, text)

    def _print(self, trial: Trial, text: str) -> None:
        self._put(f"{self._name(trial)} {text}")

    def _put(self, text: str) -> None:
        with _whatever_becomes_of_the_output():
            if self._terminal:
                self._terminal.print(text)
            else:
                print(text, flush=True)


@contextlib.contextmanager
def _whatever_becomes_of_the_output() -> Iterator[None]:
    """Print without ending what trains for hours, as a log on a full disk or a terminal that is gone would."""
    try:
        yield
    except BrokenPipeError as error:
        # Nobody reads on. No Exception, which Tune would turn into one of its own.
        raise KeyboardInterrupt(signal.SIGPIPE) from error
    except OSError:
        pass
