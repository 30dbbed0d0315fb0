"""The rows of a store as data frames, to be read alone."""

import os
from collections.abc import Callable, Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.folder_reader import SUFFIX
from dynrcnn_ray.store.metrics import MASK_METRICS, METRICS
from dynrcnn_ray.store.results_store import ResultStore

_AP = "AP"


class Store:
    """What commands have written to a storage, as data frames. Nothing is ever written here.

    Fields, units and what they mean are those of `docs/storage.md`. Everything that takes trial ids takes the rows of
    all trials without them, and leaves out a trial that has none.

    >>> import dynrcnn_ray as dr
    >>> store = dr.Store("experiments/reference_mini")
    >>> trials = store.trials()
    >>> len(trials[trials["status"] == "finished"]) > 20, "table3" in store.tables()
    (True, True)
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        """Open the store at a folder, or at a URI such as `s3://bucket/folder`.

        Raises:
            ValueError: there is none, or it cannot be reached.
        """
        self._store = open_store(os.fspath(location))

    def trials(self, trial_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row for each trial: its id, status, configuration, AP (in percent), seconds, versions; running ones too."""
        return self._store.trials_so_far(_checked(trial_ids))

    def dynamics(self, trial_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row for each logged step of each trial: T_now, beta_now, losses, positives."""
        return self._of_trials(self._store.dynamics, trial_ids)

    def evaluations(self, trial_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row for each time that a trial was evaluated: at its end, and where it was, at its checkpoints.

        Returns:
            `trial_id`, `step` and average precision in percent, COCO's `AP` and the others; of a checkpoint in the
            middle of a training `AP` alone is known. Rows of early releases may lack the step of their end.
        """
        metrics = [*METRICS, *MASK_METRICS]
        trials = self._store.trials(_checked(trial_ids), ["trial_id", "status", "steps", *metrics])
        finished = trials.loc[trials["status"] == "finished"]
        ends = finished.assign(step=finished["steps"])
        rows = self._store.dynamics(trials["trial_id"], ["trial_id", "step", _AP])
        joined = pd.concat([ends[["trial_id", "step", *metrics]], rows.dropna(subset=_AP)])
        joined = joined.drop_duplicates(["trial_id", "step"]).astype({"step": "Int64"})
        return joined.sort_values(["trial_id", "step"], ignore_index=True)

    def proposals(self, trial_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row for each recorded proposal of a few training steps: its IoU, offsets and corners."""
        return self._of_trials(self._store.proposals, trial_ids)

    def statistics(self, trial_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row for each image of each step: I_k and E_k, of trials with `run.record_statistics`."""
        return self._of_trials(self._store.statistics, trial_ids)

    def detections(self, trial_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row for each detection of a finished trial on its validation split."""
        return self._of_trials(self._store.detections, trial_ids)

    def experiments(self) -> list[str]:
        """Names of the tables, figures and grids that were run here."""
        return self._store.experiments()

    def plan(self, experiment: str) -> pd.DataFrame:
        """Which trials make up which row of an experiment.

        Raises:
            ValueError: it was never run here.
        """
        plan = self._store.plan(experiment)
        if plan is None:
            raise StoreError(
                f"{self._store.files.place}: has no experiment {experiment!r}; there are: "
                f"{', '.join(self.experiments()) or 'none'}"
            )
        return plan

    def tables(self) -> list[str]:
        """Names of the tables that commands have written here."""
        return self._store.files.names("tables", SUFFIX)

    def table(self, name: str) -> pd.DataFrame:
        """A table as the last command wrote it: a row for each configuration, or for each claim of `findings`.

        Raises:
            ValueError: there is none of that name, or its file is damaged.
        """
        relative = f"tables/{name}{SUFFIX}"
        place, content = self._store.files.describe_path(relative), self._store.files.read_bytes(relative)
        if content is None:
            raise StoreError(f"{place}: is not there; there are: {', '.join(self.tables()) or 'none'}")
        try:
            schema = pq.read_schema(pa.BufferReader(content))
        except Exception as error:  # Broken bytes make the parser raise nearly anything.
            raise StoreError(f"{place} cannot be read: {one_line(error)}; run the table's command again") from None
        table = self._store.read_table(relative, schema)
        assert table is not None
        return table.to_pandas(maps_as_pydicts="strict")

    def _of_trials(
        self, read: Callable[[Iterable[str]], pd.DataFrame], trial_ids: Iterable[str] | None
    ) -> pd.DataFrame:
        given = _checked(trial_ids)
        return read(self._store.trials_so_far(columns=["trial_id", "status"])["trial_id"] if given is None else given)


def _checked(trial_ids: Iterable[str] | None) -> Iterable[str] | None:
    """The ids, if they are several: a text would be taken for its letters, of which no trial has one for its id."""
    if isinstance(trial_ids, str):
        raise StoreError(f"trial_ids: {trial_ids!r} is one id; give a list of ids: [{trial_ids!r}]")
    return trial_ids


def open_store(location: str) -> ResultStore:
    """A store that has to be there.

    Raises:
        StoreError: it is not, or cannot be reached.
    """
    store = ResultStore.open(location)
    if not store.files.is_there():
        raise StoreError(f"storage {store.files.place}: is not there; name the folder or URI of a run's --storage")
    return store
