"""Which trial a name means: every command that takes a trial asks here."""

import re
from collections.abc import Collection

from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.folder_reader import SUFFIX
from dynrcnn_ray.store.results_store import ResultStore

_NEWEST = "last"
_BEST = "best:"
_ID = re.compile("[0-9a-f]{1,12}")
_FORMS = f"a trial is named by its id or the beginning of it, by {_NEWEST}, or by {_BEST}TABLE"
_ELSEWHERE = "another scale's trials are found by --scale, those of another folder by --storage"
_MOST_LISTED = 8


def trial_id_of(store: ResultStore, name: str) -> str:
    """The id of the trial that a name means.

    Args:
        store: where to look.
        name: an id, or a beginning that no other id has; `last`: the newest trial that has finished; `best:TABLE`: the
            finished trial with the highest AP of those that the plan of a table names.

    Raises:
        StoreError: no trial has the name, or several have it.
    """
    if name == _NEWEST:
        return _newest(store)
    if name.startswith(_BEST):
        return _best(store, name.removeprefix(_BEST))
    ids = {*store.trial_ids(), *store.files.names("running", SUFFIX)}
    fitting = [name] if name in ids else sorted(each for each in ids if name and each.startswith(name))
    if len(fitting) == 1:
        return fitting[0]
    where = store.files.describe_path("trials")
    if fitting:
        raise StoreError(f"trial {name!r}: {len(fitting)} ids in {where} begin so: {_listed(fitting)}; give more of it")
    raise StoreError(f"{where}: holds no trial {name!r}; look at its trial_id column; {_FORMS}; {_ELSEWHERE}")


def may_name_a_trial(text: str) -> bool:
    """Whether a text that may also be something else, such as a file's name, has the form of a trial's name."""
    return text == _NEWEST or text.startswith(_BEST) or _ID.fullmatch(text) is not None


def _newest(store: ResultStore) -> str:
    trials = store.trials(columns=["trial_id", "status", "finished_at"])
    finished = trials.loc[trials["status"] == "finished", :]
    if finished.empty:
        where = store.files.describe_path("trials")
        raise StoreError(f"{where}: holds no finished trial, so none is the {_NEWEST}; {_ELSEWHERE}")
    return finished.sort_values("finished_at", kind="stable")["trial_id"].iloc[-1]


def _best(store: ResultStore, table: str) -> str:
    plan = store.plan(table) if table else None
    if plan is None:
        known = _listed(store.experiments()) or "none"
        raise StoreError(f"{store.files.describe_path('plans')}: holds no table {table!r}, only: {known}")
    planned = list(dict.fromkeys(plan["trial_id"].dropna()))
    rows = store.trials(planned, ["trial_id", "status", "AP"]).to_dict("records")
    measured = {row["trial_id"]: row["AP"] for row in rows if row["status"] == "finished" and row["AP"] >= 0}
    if not measured:
        raise StoreError(f"{_BEST}{table}: no trial of this table has finished in {store.files.place}")
    # Of equal ones the first in the table.
    return max((trial for trial in planned if trial in measured), key=measured.__getitem__)


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_MOST_LISTED])
    return f"{shown} and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else shown
