"""The results store: one Parquet file per trial and kind, on a local path or any filesystem that pyarrow knows.

```
<storage>/trials/<trial_id>.parquet      one row; written last: its presence marks the trial as done
<storage>/running/<trial_id>.parquet     the same of a trial that runs, or that was killed: then nobody removes it
<storage>/running/<trial_id>.alive       empty, written each minute while it runs
<storage>/dynamics/<trial_id>.parquet    one row per logged step
<storage>/proposals/<trial_id>.parquet   proposals of a few training steps
<storage>/statistics/<trial_id>.parquet  every image's I_k and E_k, where they were recorded
<storage>/detections/<trial_id>.parquet  what a finished trial detected on its validation split
<storage>/images/<fingerprint>.parquet   a few validation images of a data set, for pictures
<storage>/folds/<folder>.parquet         many trials' rows once more, see folds.py
<storage>/plans/<experiment>.parquet     which trials make up which row of a table; train_<trial_id> for a single one
<storage>/claims/<experiment>.parquet    claims of one's own, locked before the first trial, see claims.py
<storage>/tables/<experiment>.parquet    and .md
<storage>/figures/<name>.png             and .svg
<storage>/checkpoints/<training_id>/     training states, see execution/checkpoints.py
```
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa

from dynrcnn_ray.config.stored import from_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.store.files import FileStamp, StoreError, StoreFiles
from dynrcnn_ray.store.folder_reader import KEYS, SUFFIX, read_file, read_folder
from dynrcnn_ray.store.folds import FEW, FOLDED, read_fold, worth_folding, write_fold
from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.plans import with_names_of_today
from dynrcnn_ray.store.remedies import FOREIGN_REMEDY
from dynrcnn_ray.store.schemas import DETECTIONS, DYNAMICS, IMAGES, PLAN, PROPOSALS, STATISTICS, TRIALS
from dynrcnn_ray.store.stalled import SIGN, with_stalled
from dynrcnn_ray.store.tables import table_of_columns, table_of_rows

_SIGNS = "signs of life"
"""The key of `listed` for the signs of life in `running/`; the other keys are folders."""


@dataclass(frozen=True)
class ResultStore:
    """Where results live. Build one with `ResultStore.open`.

    Attributes:
        files: its files.
        listed: folders that were listed before and are not listed again, each with what was there: see `fold`.
    """

    files: StoreFiles
    listed: Mapping[str, Mapping[str, FileStamp]] = field(default_factory=dict)

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> "ResultStore":
        """A store at a local path or a URI such as `s3://bucket/folder`. Nothing is created before the first write.

        Raises:
            StoreError: the URI cannot be understood or its filesystem not be reached.
        """
        return cls(StoreFiles.open(location))

    def write_trial(self, row: Mapping[str, Any]) -> None:
        """Write the row of a finished or failed trial; fields as in `TRIALS`. Replaces an earlier row.

        Write the trial's dynamics first: this row is what marks the trial as done.

        Raises:
            StoreError: the row does not fit the schema, or the storage cannot be written.
        """
        self._write_rows(f"trials/{row['trial_id']}{SUFFIX}", [row], TRIALS)
        self.drop_running(row["trial_id"])

    def write_running(self, row: Mapping[str, Any]) -> None:
        """Write the row of a trial that runs; `write_trial` removes it.

        Raises:
            StoreError: the row does not fit the schema, or the storage cannot be written.
        """
        self._write_rows(f"running/{row['trial_id']}{SUFFIX}", [row], TRIALS)

    def write_sign_of_life(self, trial_id: str) -> None:
        """Say that a trial still runs: see `stalled.py`.

        Raises:
            StoreError: the storage cannot be written.
        """
        self.files.write_bytes(f"running/{trial_id}{SIGN}", b"")

    def drop_running(self, trial_id: str) -> None:
        """Remove the row of a trial that no longer runs."""
        for suffix in (SUFFIX, SIGN):
            self.files.delete(f"running/{trial_id}{suffix}")

    def write_dynamics(self, trial_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write all logged steps of a trial; fields as in `DYNAMICS`, without `trial_id`. Replaces earlier ones.

        Raises:
            StoreError: a row does not fit the schema, or the storage cannot be written.
        """
        named = [{**row, "trial_id": trial_id} for row in rows]
        self._write_rows(f"dynamics/{trial_id}{SUFFIX}", named, DYNAMICS)

    def write_proposals(self, trial_id: str, columns: Mapping[str, Any]) -> None:
        """Write a trial's recorded proposals: an array for each field of `PROPOSALS` but `trial_id`.

        Raises:
            StoreError: the columns do not fit the schema, or the storage cannot be written.
        """
        self._write_columns(f"proposals/{trial_id}{SUFFIX}", trial_id, columns, PROPOSALS)

    def write_statistics(self, trial_id: str, columns: Mapping[str, Any]) -> None:
        """Write a trial's recorded statistics: an array for each field of `STATISTICS` but `trial_id`.

        Raises:
            StoreError: the columns do not fit the schema, or the storage cannot be written.
        """
        self._write_columns(f"statistics/{trial_id}{SUFFIX}", trial_id, columns, STATISTICS)

    def write_detections(self, trial_id: str, columns: Mapping[str, Any]) -> None:
        """Write a trial's detections: an array for each field of `DETECTIONS` but `trial_id`.

        Raises:
            StoreError: the columns do not fit the schema, or the storage cannot be written.
        """
        self._write_columns(f"detections/{trial_id}{SUFFIX}", trial_id, columns, DETECTIONS)

    def write_images(self, fingerprint: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a few validation images of a data set, known by its fingerprint; fields as in `IMAGES`.

        Raises:
            StoreError: a row does not fit the schema, or the storage cannot be written.
        """
        self._write_rows(f"images/{fingerprint}{SUFFIX}", list(rows), IMAGES)

    def write_plan(self, experiment: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        """Write the plan of an experiment; fields as in `PLAN`, without `experiment`. Replaces the earlier plan.

        Returns:
            The plan, as `plan` reads it until another command replaces it.

        Raises:
            StoreError: a row does not fit the schema, or the storage cannot be written.
        """
        named = [{**row, "experiment": experiment} for row in rows]
        return _as_frame(self._write_rows(f"plans/{experiment}{SUFFIX}", named, PLAN))

    def read_table(self, relative: str, schema: pa.Schema) -> pa.Table | None:
        """A Parquet file of this schema; None if there is none.

        Raises:
            StoreError: the file is damaged, foreign or of another schema version.
        """
        content = self.files.read_bytes(relative)
        return None if content is None else read_file(self.files, relative, content, schema)

    def trial_ids(self) -> list[str]:
        """Ids of the trials that have a row, sorted.

        Raises:
            StoreError: the storage cannot be read.
        """
        return list(self._present("trials"))

    def finished_trials(self) -> set[str]:
        """Ids of the trials that have finished; failed ones are not among them.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version.
        """
        trials = self.trials(columns=["trial_id", "status"])
        return set(trials.loc[trials["status"] == "finished", "trial_id"])

    def trials(self, trial_ids: Iterable[str] | None = None, columns: list[str] | None = None) -> pd.DataFrame:
        """Rows of the given trials, or of all. Trials that the store lacks are left out.

        Args:
            trial_ids: whose rows; None: all.
            columns: fields of `TRIALS`, `trial_id` among them; None: all.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version.
        """
        return _as_frame(self._read("trials", TRIALS, trial_ids, columns))

    def trials_so_far(self, trial_ids: Iterable[str] | None = None, columns: list[str] | None = None) -> pd.DataFrame:
        """Like `trials`, and with them those that run; one that has failed and runs again is only running.

        A trial that was killed has the status "stalled", and as `finished_at` when it last was known to run.

        Args:
            trial_ids: whose rows; None: all.
            columns: fields of `TRIALS`, `trial_id` and `status` among them; None: all.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version.
        """
        asked = None if trial_ids is None else set(trial_ids)
        listed = self._wanted("running", asked)
        running = read_folder(self.files, "running", TRIALS, listed, columns)
        # A trial that has ended since it was listed as running has a row by now, whether or not that is listed.
        ended_since = listed.keys() - set(running["trial_id"].to_pylist())
        wanted = {**self._wanted("trials", asked), **dict.fromkeys(ended_since)}
        ended = read_folder(self.files, "trials", TRIALS, wanted, columns)
        # A command that is killed between a row and the removal of the other leaves both.
        states = zip(ended["trial_id"].to_pylist(), ended["status"].to_pylist(), strict=True)
        running = _without(running, {trial_id for trial_id, status in states if status == "finished"})
        ended = _without(ended, set(running["trial_id"].to_pylist()))
        trials = _as_frame(pa.concat_tables([ended, running]))
        return with_stalled(trials, listed, self._signs()) if listed else trials

    def dynamics(self, trial_ids: Iterable[str], columns: list[str] | None = None) -> pd.DataFrame:
        """Logged steps of the given trials. Trials that the store lacks are left out.

        Args:
            trial_ids: whose steps.
            columns: fields of `DYNAMICS`, `trial_id` among them; None: all.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version.
        """
        return _as_frame(self._read("dynamics", DYNAMICS, trial_ids, columns))

    def proposals(self, trial_ids: Iterable[str]) -> pd.DataFrame:
        """Recorded proposals of the given trials; columns as in `PROPOSALS`. Trials that the store lacks are left out.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version.
        """
        return _as_frame(self._read("proposals", PROPOSALS, trial_ids))

    def statistics(self, trial_ids: Iterable[str]) -> pd.DataFrame:
        """Recorded statistics of the given trials; columns as in `STATISTICS`. Trials that lack them are left out.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version.
        """
        return _as_frame(self._read("statistics", STATISTICS, trial_ids))

    def detections(self, trial_ids: Iterable[str]) -> pd.DataFrame:
        """Detections of the given trials; columns as in `DETECTIONS`. Trials that the store lacks are left out.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version.
        """
        return _as_frame(self._read("detections", DETECTIONS, trial_ids))

    def images(self, fingerprint: str) -> pd.DataFrame:
        """The stored validation images of a data set; columns as in `IMAGES`. Empty if there are none.

        Raises:
            StoreError: the file is damaged, foreign or of another schema version.
        """
        return _as_frame(self._read("images", IMAGES, [fingerprint]))

    def plan(self, experiment: str) -> pd.DataFrame | None:
        """The plan of an experiment's latest command; columns as in `PLAN`. None if it was never run here.

        Raises:
            StoreError: the file is damaged, foreign or of another schema version.
        """
        table = self.read_table(f"plans/{experiment}{SUFFIX}", PLAN)
        return None if table is None else with_names_of_today(_as_frame(table))

    def experiments(self) -> list[str]:
        """Names of the experiments that have a plan, sorted.

        Raises:
            StoreError: the storage cannot be read.
        """
        return self.files.names("plans", SUFFIX)

    def fold(self) -> "ResultStore":
        """Repeat the rows of very many trials in a few files, from which they are read many times faster.

        What is read stays the same. Several commands may do this at once, and while trials are written.

        Returns:
            This store as it was just listed: what is drawn from it shows the trials of one moment, and its large
            folders are listed once, which takes seconds on an object store.

        Raises:
            StoreError: a file of the store is damaged, foreign or of another schema version, or cannot be written.
        """
        # The running ones first: a trial that ends meanwhile is then in both, not in neither.
        listed = {folder: self.files.stamps(folder, SUFFIX) for folder in ("running", *FOLDED)}
        listed[_SIGNS] = self.files.stamps("running", SIGN)
        for folder, schema in FOLDED.items():
            if len(listed[folder]) > FEW:
                settled = worth_folding(listed[folder], read_fold(self.files, folder, schema, [KEYS[folder]]))
                if settled:
                    write_fold(self.files, folder, read_folder(self.files, folder, schema, settled), settled)
        return ResultStore(self.files, listed)

    def trial_of(self, row: Mapping[str, Any]) -> Trial:
        """A trial, from its row as in `TRIALS`.

        Raises:
            StoreError: it is not one that this release reads.
        """
        try:
            return from_stored(row["config"])
        except ConfigError as error:
            path = self.files.describe_path(f"trials/{row['trial_id']}{SUFFIX}")
            raise StoreError(f"{path}: its configuration is of another release: {error}; {FOREIGN_REMEDY}") from None

    def _write_rows(self, relative: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
        return self._write(relative, table_of_rows(relative, rows, schema))

    def _write_columns(self, relative: str, trial_id: str, columns: Mapping[str, Any], schema: pa.Schema) -> None:
        self._write(relative, table_of_columns(relative, trial_id, columns, schema))

    def _write(self, relative: str, table: pa.Table) -> pa.Table:
        self.files.write_bytes(relative, to_parquet_bytes(table, relative))
        return table

    def _read(
        self, folder: str, schema: pa.Schema, names: Iterable[str] | None, columns: list[str] | None = None
    ) -> pa.Table:
        return read_folder(self.files, folder, schema, self._wanted(folder, names), columns)

    def _wanted(self, folder: str, names: Iterable[str] | None) -> dict[str, FileStamp]:
        """Those of the names whose files are there, or all that are."""
        present = self._present(folder)
        return {name: present[name] for name in (present if names is None else set(names).intersection(present))}

    def _signs(self) -> Mapping[str, FileStamp]:
        return self.listed[_SIGNS] if _SIGNS in self.listed else self.files.stamps("running", SIGN)

    def _present(self, folder: str) -> Mapping[str, FileStamp]:
        return self.listed[folder] if folder in self.listed else self.files.stamps(folder, SUFFIX)


def _without(trials: pa.Table, trial_ids: set[str]) -> pa.Table:
    return trials.filter(
        pa.array([trial_id not in trial_ids for trial_id in trials["trial_id"].to_pylist()], pa.bool_())
    )


def _as_frame(table: pa.Table) -> pd.DataFrame:
    # Python's own strings: rows are taken apart one by one, which costs more than anything that Arrow's would save.
    with pd.option_context("mode.string_storage", "python"):
        return table.to_pandas(maps_as_pydicts="strict")
