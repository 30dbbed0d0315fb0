"""Claims of one's own: refused before anything trains, and locked in the store right before the first trial begins."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import Experiment, Row, Seeds, seeds_by_row
from dynrcnn_ray.report.claim_lines import ReadClaim, read_line
from dynrcnn_ray.report.claim_rows import ClaimRow, RowNames
from dynrcnn_ray.report.stated_claims import StatedClaim, stated_claims
from dynrcnn_ray.store.claims import read_claims, write_claims
from dynrcnn_ray.store.results_store import ResultStore

_HASH_LENGTH = 12


def checked_claims(experiment: Experiment, config: TrialConfig) -> list[tuple[StatedClaim, ReadClaim]]:
    """The claims of an experiment with what they mean.

    Args:
        experiment: what states them.
        config: what its rows start from.

    Raises:
        ConfigError: one cannot be read, names no row or metric, or could never be measured.
    """
    stated = stated_claims(experiment.claims)
    if not stated:
        return []
    rows = experiment.rows(config)
    names = RowNames.of_table([ClaimRow(row.labels, row.reported, row.metric_prefix) for row in rows])
    read = [(claim, read_line(claim.line, names)) for claim in stated]
    for claim, meant in read:
        _check_is_measured(claim.line, meant, rows, names)
    return read


def _check_is_measured(line: str, meant: ReadClaim, rows: Sequence[Row], names: RowNames) -> None:
    for term in (term for contrast in meant.contrasts for term in contrast.terms):
        config = rows[term.row].config
        if config is None:
            raise ConfigError(f"claims: {line!r}: {names.names[term.row]!r} is reported alone, it has no trial")
        if term.measure.startswith("segm_") and not config.model.has_masks:
            raise ConfigError(
                f"claims: {line!r}: {names.names[term.row]!r} has no masks, so {term.measure} is never measured; "
                "choose model.name mask_rcnn, or a metric of boxes"
            )
    for contrast in meant.contrasts:
        for one, other in itertools.combinations(contrast.terms, 2):
            if one.measure == other.measure and rows[one.row].config == rows[other.row].config:
                same = f"{names.names[one.row]!r} and {names.names[other.row]!r}"
                raise ConfigError(f"claims: {line!r}: {same} are the same trials, which differ in nothing")


def print_claims(store: ResultStore, experiment: Experiment, base: Trial) -> None:
    """Print an experiment's claims, and since when the store has them."""
    found = _locked(store, experiment, base, (), "")
    if found:
        print("Claims, which are locked when the first trial begins:")
    for claim in found:
        since = f"locked {claim['locked_at']:%Y-%m-%d %H:%M} UTC"
        state = "new" if claim["is_new"] else since
        state += ", added afterwards" if claim["is_afterwards"] else ""
        state += ", no longer stated" if claim["dropped_at"] else ""
        words = f"  ({claim['words']})" if claim["words"] else ""
        print(f"  {claim['hash']}  {claim['line']}{words}  {state}")


def lock_claims(store: ResultStore, experiment: Experiment, base: Trial, seeds: Seeds, command: str) -> None:
    """Write down what an experiment claims before its trials begin.

    A claim that the store has stays as it was locked, with its words; one that the experiment does not state any more
    stays too, and is marked as dropped if the experiment has all of its rows.

    Args:
        store: where they are kept.
        experiment: what states them.
        base: what its rows start from, with its data.
        seeds: of the rows.
        command: as it may stand in a plan.

    Raises:
        ConfigError: a claim cannot be judged.
        StoreError: the storage cannot be read or written.
    """
    claims = _locked(store, experiment, base, seeds, command)
    if not claims:
        return
    new = [claim for claim in claims if claim.pop("is_new")]
    write_claims(store, experiment.name, claims)
    if new:
        late = sum(claim["is_afterwards"] for claim in new)
        told = f", {late} of them afterwards: their rows had begun to train" if late else ""
        claims_told = f"{len(new)} claim{'s' if len(new) > 1 else ''}"
        print(f"{experiment.name}: {claims_told} locked{told}; `dynrcnn findings` judges them.", flush=True)


def _locked(
    store: ResultStore, experiment: Experiment, base: Trial, seeds: Seeds, command: str
) -> list[dict[str, Any]]:
    """The rows of `schemas.CLAIMS` as they are to be, each with `is_new`."""
    stated = checked_claims(experiment, base.config)
    earlier = read_claims(store, experiment.name)
    if not stated and not earlier:
        return []
    now = datetime.now(UTC)
    planned = experiment.rows_with_trials(base)
    trials = [trial for _, trial in planned]
    by_row = seeds_by_row(seeds, len(trials))
    claims = {claim["hash"]: {**claim, "is_new": False} for claim in earlier}
    begun: set[int] | None = None
    stated_hashes: set[str] = set()
    for claim, meant in stated:
        rows = {text: _ids(trials[row], by_row[row]) for text, row in meant.references.items()}
        prefixes = {text: planned[row][0].metric_prefix for text, row in meant.references.items()}
        key = _hash(claim.line, rows, prefixes)
        stated_hashes.add(key)
        if key in claims:
            known = claims[key]
            ids = {text: list(dict.fromkeys([*known["rows"][text], *ids])) for text, ids in rows.items()}
            known.update(rows=ids, metric_prefixes=prefixes, dropped_at=None)
            continue
        begun = _rows_that_have_begun(store, trials) if begun is None else begun
        claims[key] = {
            "experiment": experiment.name,
            "line": claim.line,
            "words": claim.words or None,
            "hash": key,
            "locked_at": now,
            "is_afterwards": any({term.row for term in each.terms} <= begun for each in meant.contrasts),
            "dropped_at": None,
            "rows": rows,
            "metric_prefixes": prefixes,
            "command": command,
            "is_new": True,
        }
    own = {_ids(trial, ())[0] for trial in trials if trial}
    for key, claim in claims.items():
        if key not in stated_hashes and {ids[0] for ids in claim["rows"].values()} <= own:
            claim["dropped_at"] = claim["dropped_at"] or now
    return list(claims.values())


def _ids(trial: Trial | None, seeds: Sequence[int]) -> list[str]:
    """The ids of a row's trials, that with seed 0 first: it stands for the row's configuration."""
    assert trial is not None
    return list(dict.fromkeys(trial.with_seed(seed).trial_id for seed in (0, *seeds)))


def _hash(line: str, rows: Mapping[str, Sequence[str]], prefixes: Mapping[str, str]) -> str:
    content = json.dumps(
        [line, sorted((text, prefixes[text] + ids[0]) for text, ids in rows.items())], ensure_ascii=False
    )
    return hashlib.sha256(content.encode()).hexdigest()[:_HASH_LENGTH]


def _rows_that_have_begun(store: ResultStore, trials: Sequence[Trial | None]) -> set[int]:
    """The rows of which the store has a trial with any seed, of whatever experiment, whether or not it has ended."""
    stored = store.trials_so_far(columns=["trial_id", "status", "seed", "finished_at"])
    ids, seeds = set(stored["trial_id"]), sorted({int(seed) for seed in stored["seed"]})
    return {row for row, trial in enumerate(trials) if trial and not ids.isdisjoint(_ids(trial, seeds))}
