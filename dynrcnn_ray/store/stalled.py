"""Trials whose rows say that they run, though their drivers were killed and write no signs of life any more."""

import time
from collections.abc import Mapping

import pandas as pd

from dynrcnn_ray.store.files import FileStamp

SIGN = ".alive"
"""Suffix of the empty file that a trial's driver renews beside the trial's row in `running/`."""
SECONDS_BETWEEN_SIGNS = 60.0
_SECONDS_OF_SILENCE = 600.0
"""After these a trial has stalled: a storage may not answer for minutes, and clocks of two machines differ."""


def with_stalled(
    trials: pd.DataFrame, rows: Mapping[str, FileStamp], signs: Mapping[str, FileStamp], now: float | None = None
) -> pd.DataFrame:
    """The trials, with the status "stalled" for those that seem to run; `finished_at` is then their last sign of life.

    Args:
        trials: rows as in `schemas.TRIALS`, with `status`.
        rows: the files of `running/`, by trial.
        signs: the drivers' signs, likewise.
        now: seconds since 1970; None: now.
    """
    now = time.time() if now is None else now
    trials = trials.copy()
    for index, trial_id in trials.loc[trials["status"] == "running", "trial_id"].items():
        last = max(stamps[trial_id].written_at for stamps in (rows, signs) if trial_id in stamps) / 1e9
        if now - last > _SECONDS_OF_SILENCE:
            trials.loc[index, "status"] = "stalled"
            if "finished_at" in trials:
                trials.loc[index, "finished_at"] = pd.Timestamp(last, unit="s", tz="UTC").floor("s")
    return trials
