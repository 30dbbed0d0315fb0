"""Claims of one's own: refused before anything trains, locked before the first trial, and judged from the store."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.execution.claims import checked_claims, lock_claims
from dynrcnn_ray.experiment.experiment import Experiment, Row, with_fields
from dynrcnn_ray.experiment.sweep import Sweep, read_sweep
from dynrcnn_ray.paper import table3
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE, finding_cells
from dynrcnn_ray.report.findings import Judgement, judge
from dynrcnn_ray.report.own_claims import own_claims, own_numbers
from dynrcnn_ray.store.claims import experiments_with_claims, read_claims, write_claims
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.parquet import from_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main
from tests.stored_table import dynamics_rows, trial_row

BASE = Trial(base_config("smoke"))
ROWS: dict[str, dict[str, Any]] = {
    "baseline": {"dynamic.dla": False, "dynamic.dsl": False},
    "DLA": {"dynamic.dsl": False},
    "both": {},
}
GAIN, SAME = "AP: both > baseline", "AP50: |both - DLA| < 1"
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
EXAMPLE, REFERENCE = EXPERIMENTS / "claims.yaml", EXPERIMENTS / "reference_mini"


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore.open(tmp_path / "store")


def experiment(*claims: Any, rows: Mapping[str, dict[str, Any]] = ROWS) -> Experiment:
    return Sweep(name="mine", title="Mine", rows=dict(rows), claims=list(claims)).experiment(())


def lock(store: ResultStore, *claims: Any, seeds: Sequence[int] = (0,), **others: Any) -> list[dict[str, Any]]:
    lock_claims(store, experiment(*claims, **others), BASE, seeds, "dynrcnn grid mine.yaml")
    return read_claims(store, "mine")


def train(store: ResultStore, of: Experiment, ap: Mapping[str, Sequence[float]]) -> None:
    """Write a plan and the trials of some rows, with an AP for each seed."""
    seeds = list(range(max(map(len, ap.values()))))
    store.write_plan(of.name, of.plan(BASE, seeds, "dynrcnn grid mine.yaml"))
    for row, trial in of.rows_with_trials(BASE):
        for seed, number in enumerate(ap.get(row.labels.get("Setting", ""), ())):
            assert trial is not None
            numbers = {"AP": number, "AP50": number + 20, "seed": seed}
            store.write_trial(trial_row(trial.with_seed(seed).trial_id, **numbers))


def judged(store: ResultStore) -> list[Judgement]:
    claims = own_claims(store)
    return judge(claims, own_numbers(store, claims))


def test_a_claim_is_locked_with_its_words_a_hash_and_the_date(store: ResultStore):
    before = datetime.now(UTC)
    first, second = lock(store, {"AP": "both > baseline", "claim": "Both gain"}, SAME, seeds=(0, 1))
    assert (first["line"], first["words"], second["line"], second["words"]) == (GAIN, "Both gain", SAME, None)
    assert before <= first["locked_at"] <= datetime.now(UTC)
    assert (first["is_afterwards"], first["dropped_at"]) == (False, None)
    assert len({first["hash"], second["hash"]}) == 2
    (both,) = (trial for row, trial in experiment().rows_with_trials(BASE) if row.labels["Setting"] == "both")
    assert both is not None
    assert first["rows"]["both"] == [both.with_seed(seed).trial_id for seed in (0, 1)]


def test_what_was_locked_stays_and_later_seeds_are_of_the_same_rows(store: ResultStore):
    (first,) = lock(store, {"AP": "both > baseline", "claim": "Both gain"}, seeds=(1,))
    train(store, experiment(), {"both": [42.0], "baseline": [40.0]})
    (again,) = lock(store, {"AP": "both  >  baseline", "claim": "Everything gains"}, seeds=(2,))
    assert again["rows"].keys() == first["rows"].keys()
    assert {row: len(ids) for row, ids in again["rows"].items()} == {"both": 3, "baseline": 3}
    assert {**again, "rows": first["rows"]} == first, "neither the words nor the date change"


def test_a_claim_that_its_trials_could_have_told_is_added_afterwards(store: ResultStore):
    lock(store)
    train(store, experiment(), {"baseline": [40.0]})
    assert not lock(store, GAIN)[0]["is_afterwards"], "the baseline alone tells no difference"
    train(store, experiment(), {"baseline": [40.0], "both": [42.0]})
    lines = {claim["line"]: claim["is_afterwards"] for claim in lock(store, GAIN, SAME, "AP: both > 40")}
    assert lines == {GAIN: False, SAME: False, "AP: both > 40": True}


@pytest.mark.parametrize("how", ["runs", "failed", "other seed", "other experiment"])
def test_a_row_has_begun_whatever_began_it_and_however_it_ended(store: ResultStore, how: str):
    for row, trial in experiment().rows_with_trials(BASE):
        assert trial is not None
        if row.labels["Setting"] == "DLA":
            continue
        seed = 7 if how == "other seed" else 0
        status = {"runs": "running", "failed": "failed"}.get(how, "finished")
        stored = trial_row(trial.with_seed(seed).trial_id, seed=seed, status=status, experiment="table3")
        (store.write_running if how == "runs" else store.write_trial)(stored)
    assert [claim["is_afterwards"] for claim in lock(store, GAIN, SAME)] == [True, False]


def test_a_changed_claim_is_a_new_one_and_the_old_one_is_kept_as_dropped(store: ResultStore):
    (old,) = lock(store, GAIN)
    train(store, experiment(), {"both": [42.0, 43.0, 43.2], "baseline": [40.0, 40.9, 41.2], "DLA": [41.0] * 3})
    dropped, new = lock(store, f"{GAIN} + 0.5")
    assert (dropped["hash"], dropped["locked_at"]) == (old["hash"], old["locked_at"])
    assert dropped["dropped_at"] > old["locked_at"]
    assert (new["line"], new["is_afterwards"], new["dropped_at"]) == (f"{GAIN} + 0.5", True, None)
    assert [each.verdict for each in judged(store)] == ["confirmed"] * 2, "both are judged"
    since = dropped["dropped_at"]
    assert [claim["dropped_at"] for claim in lock(store)][:1] == [since], "it was dropped then"
    back, gone = lock(store, GAIN)
    assert (back["locked_at"], back["dropped_at"]) == (old["locked_at"], None)
    assert gone["dropped_at"] is not None


def test_a_command_without_a_claims_rows_drops_nothing(store: ResultStore):
    lock(store, GAIN)
    (claim, other) = lock(store, "AP: DLA > 3", rows={"DLA": ROWS["DLA"], "both": ROWS["both"]})
    assert (claim["dropped_at"], other["line"]) == (None, "AP: DLA > 3")


def test_a_row_of_another_configuration_is_another_claim(store: ResultStore):
    (first,) = lock(store, GAIN)
    old, new = lock(store, GAIN, rows={**ROWS, "both": {"dynamic.iou_top_k": 99}})
    assert (old["hash"], old["line"], new["line"]) == (first["hash"], GAIN, GAIN)
    assert new["hash"] != first["hash"]


def test_rows_are_known_by_their_trials_whatever_the_table_calls_them_later(store: ResultStore):
    lock(store, GAIN, seeds=(0, 1, 2))
    renamed = experiment(rows={"none": ROWS["baseline"], "baseline": ROWS["DLA"], "all": ROWS["both"]})
    train(store, renamed, {"all": [42.0, 43.1, 43.9], "none": [40.0, 41.0, 42.0], "baseline": [50.0] * 3})
    (judgement,) = judged(store)
    assert judgement.parts[0].estimate.mean == pytest.approx(2.0)
    assert judgement.verdict == "confirmed"
    assert (judgement.claim.experiment, judgement.claim.words) == ("mine", GAIN)


def test_a_row_that_is_gone_is_not_measured(store: ResultStore):
    lock(store, GAIN)
    train(store, experiment(rows={"DLA": ROWS["DLA"], "both": ROWS["both"]}), {"both": [42.0, 43.0]})
    (judgement,) = judged(store)
    assert (judgement.verdict, judgement.n) == ("not measured", 0)


def test_a_paper_of_ones_own_grid_is_shown_beside(store: ResultStore):
    rows = {**ROWS, "both": {"paper": {"AP": 38.9}}, "baseline": {**ROWS["baseline"], "paper": {"AP": 37.0}}}
    lock(store, GAIN, rows=rows)
    train(store, experiment(rows=rows), {"both": [42.0], "baseline": [40.0]})
    (judgement,) = judged(store)
    assert judgement.parts[0].contrast.paper == pytest.approx(1.9)


def test_metrics_that_no_table_shows_are_read_for_a_claim(store: ResultStore):
    lock(store, "AP75: both > baseline")
    train(store, experiment(), {"both": [42.0], "baseline": [40.0]})
    shown = store.trials(columns=["trial_id", "status", "AP"])
    for row, trial in experiment().rows_with_trials(BASE):
        assert trial is not None
        if row.labels["Setting"] != "DLA":
            store.write_trial(trial_row(trial.with_seed(0).trial_id, AP75=30.0 + len(row.labels["Setting"])))
    claims = own_claims(store)
    (numbers,) = own_numbers(store, claims, shown).values()
    assert claims[0].contrasts[0].estimate(numbers).mean == pytest.approx(-4.0)


def test_nothing_is_written_for_an_experiment_that_claims_nothing(store: ResultStore, tmp_path: Path):
    lock(store)
    lock_claims(store, table3.EXPERIMENT, BASE, [0], "dynrcnn table3")
    assert not list(tmp_path.iterdir())
    assert (own_claims(store), own_numbers(store, [])) == ([], {})


def test_a_file_of_claims_in_anothers_place_is_refused(store: ResultStore, tmp_path: Path):
    lock(store, GAIN)
    folder = tmp_path / "store" / "claims"
    shutil.copy(folder / "mine.parquet", folder / "other.parquet")
    with pytest.raises(StoreError, match="move it"):
        own_claims(store)


def test_a_store_of_an_earlier_release_has_none_and_its_findings_are_read():
    reference = ResultStore.open(REFERENCE)
    assert own_claims(reference) == []
    content = reference.files.read_bytes(FINDINGS_FILE)
    assert content is not None
    cells = finding_cells(from_parquet_bytes(content, FINDINGS).to_pylist())
    assert cells.reference == "Findings of the paper"
    assert not any(grid.name.startswith("locks") for grid in cells.grids)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (["AP: bothe > baseline"], "'bothe' is no row; did you mean 'both'?; rows: 'baseline', 'DLA', 'both'"),
        (["AP55: both > baseline"], "'AP55' is no metric"),
        (["AP: |both - DLA| < 0"], "give a margin above zero"),
        (["segm_AP: both > baseline"], "'both' has no masks, so segm_AP is never measured"),
        ([{"claim": "Both gain"}], "has words alone"),
        (3, "must be a list of claims"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_mistake_is_refused_before_anything_is_written(tmp_path: Path, capsys, claims, message: str, dry_run: bool):
    file = tmp_path / "mine.yaml"
    rows = "rows: {baseline: {dynamic.dla: false, dynamic.dsl: false}, DLA: {dynamic.dsl: false}, both: {}}\n"
    file.write_text(f"{rows}claims: {claims!r}\n")
    store = tmp_path / "store"
    arguments = ["grid", str(file), "--scale", "smoke", "--storage", str(store), *(["--dry-run"] if dry_run else [])]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not store.exists()


def test_a_row_that_only_a_paper_reports_is_refused():
    def rows(base: TrialConfig) -> list[Row]:
        return [Row({"Setting": "ours"}, base, {}), Row({"Setting": "theirs"}, None, {"AP": 38.9})]

    def stating(claim: str) -> Experiment:
        return Experiment("mine", "a", "t", ("AP",), (), rows, claims=[claim])

    assert checked_claims(stating("AP: ours > 38.9"), BASE.config)
    with pytest.raises(ConfigError, match="'theirs' is reported alone, it has no trial"):
        checked_claims(stating("AP: ours > theirs"), BASE.config)


def boxes_and_masks(*claims: str) -> Experiment:
    """A grid whose rows show the boxes' numbers and the masks' of the same trials, as Table 8 does."""

    def rows(base: TrialConfig) -> list[Row]:
        masks = with_fields(base, "model", name="mask_rcnn")
        return [
            Row({"What": what, "Rule": rule}, with_fields(masks, "dynamic", **off), {}, metric_prefix=prefix)
            for what, prefix in (("boxes", ""), ("masks", "segm_"))
            for rule, off in (("dynamic", {}), ("fixed", {"dla": False, "dsl": False}))
        ]

    return Experiment("mine", "Mine", "Boxes and masks", ("AP",), ("dynamic.dla",), rows, claims=claims)


def test_rows_of_the_same_trials_are_told_apart_by_what_they_show(store: ResultStore):
    """Boxes gain 3 and masks 0.5: a claim about either is judged by its own."""
    of = boxes_and_masks(
        "AP: [What = boxes, Rule = dynamic] > [What = boxes, Rule = fixed] + 2",
        "AP: [What = masks, Rule = dynamic] > [What = masks, Rule = fixed] + 2",
    )
    lock_claims(store, of, BASE, (0, 1, 2), "c")
    store.write_plan("mine", of.plan(BASE, (0, 1, 2), "c"))
    for row, trial in of.rows_with_trials(BASE)[:2]:
        for seed in (0, 1, 2):
            gain, off = seed / 100, row.labels["Rule"] == "fixed"
            trial_id = trial.with_seed(seed).trial_id
            numbers = {"AP": 60.0 - off * (3.0 + gain), "segm_AP": 50.0 - off * (0.5 + gain)}
            store.write_trial(trial_row(trial_id, seed=seed, **numbers))

    claims = own_claims(store)
    boxes, masks = judge(claims, own_numbers(store, claims))

    assert [each.parts[0].estimate.mean for each in (boxes, masks)] == pytest.approx([3.01, 0.51])
    assert [each.verdict for each in (boxes, masks)] == ["confirmed", "contradicted"]


def test_what_an_earlier_release_locked_of_such_rows_counts_as_not_measured(store: ResultStore):
    """It did not say which of them is meant."""
    test_rows_of_the_same_trials_are_told_apart_by_what_they_show(store)
    write_claims(store, "mine", [{**claim, "metric_prefixes": None} for claim in read_claims(store, "mine")])

    claims = own_claims(store)

    assert [each.verdict for each in judge(claims, own_numbers(store, claims))] == ["not measured"] * 2


def test_two_rows_of_the_same_trials_cannot_differ():
    of = Experiment(
        *("mine", "Mine", "One row, twice", ("AP",), ("dynamic.dla",)),
        rows=lambda base: [Row({"Name": name}, base, {}) for name in ("both", "again")],
        claims=("AP: Name = both > Name = again",),
    )

    with pytest.raises(ConfigError, match="'Name = both' and 'Name = again' are the same trials, which differ in noth"):
        checked_claims(of, BASE.config)


def test_yaml_takes_a_bar_for_a_text_and_says_so():
    with pytest.raises(ConfigError, match=r"is not valid YAML: .*; a claim with \|...\| stands in quotes"):
        read_sweep("rows: {a: {}}\nclaims:\n  - AP: |a - b| < 1\n", "mine")


MODULE = """
from dynrcnn_ray.experiment.experiment import Experiment, Row, with_fields

def rows(base):
    return [Row({"C": str(c)}, with_fields(base, "dynamic", update_interval=c), {}) for c in (3, 5)]

EXPERIMENT = Experiment(
    "mine", "Mine", "Update interval", ("AP",), ("dynamic.update_interval",), rows,
    claims=({"AP": "|C = 3 - C = 5| < 30", "claim": "C does not $matter$"}, "AP: C = 3 > C = 5"),
)
"""


@pytest.fixture
def trainer(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, Any]]]:
    """In the place of training: what the store had locked when the first trial of each command began."""
    locked: list[list[dict[str, Any]]] = []

    def run_trials(trials: Sequence[grid.PlannedTrial], *, storage: str, on_start: Any, **_: Any) -> None:
        on_start()
        store = ResultStore.open(storage)
        locked.append([claim for name in experiments_with_claims(store) for claim in read_claims(store, name)])
        for planned in trials:
            trial_id, config = planned.trial.trial_id, planned.trial.config
            store.write_dynamics(trial_id, dynamics_rows(0, config.seed))
            row = {"seed": config.seed, "scale": "smoke", "config": to_stored(planned.trial)}
            interval, seed = config.dynamic.update_interval, config.seed
            store.write_trial(trial_row(trial_id, **row, AP=10 * interval + seed**2 + interval * (seed - 1) / 100))

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(grid, "run_trials", run_trials)
    return locked


@pytest.mark.slow
def test_a_modules_claims_are_locked_judged_and_shown_everywhere(trainer, tmp_path: Path, capsys):
    file, store = tmp_path / "mine.py", tmp_path / "store"
    file.write_text(MODULE)
    command = ["grid", "--module", str(file), "--scale", "smoke", "--storage", str(store), "--seeds", "0", "1", "2"]
    assert main([*command, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert not store.exists()
    assert "AP: |C = 3 - C = 5| < 30  (C does not $matter$)  new\n" in out

    assert main(command) == 0
    ((first, second),) = trainer
    assert f"  {first['hash']}  " in out, "the dry run tells the hash that is then locked"
    assert "mine: 2 claims locked; `dynrcnn findings` judges them." in capsys.readouterr().out

    assert main(["findings", "--storage", str(store)]) == 0
    out = capsys.readouterr().out
    assert "Of 2 claims: 1 confirmed, 1 contradicted" in out
    assert "of the paper" not in out, "there is none of its tables"
    rows = pd.read_parquet(store / "tables" / "findings.parquet")
    assert rows["claim_hash"].tolist() == [first["hash"], second["hash"]]
    assert rows["measured"].tolist() == pytest.approx([-20.0, -20.0])
    assert rows["verdict"].tolist() == ["confirmed", "contradicted"]
    table, latex = ((store / "tables" / f"findings.{kind}").read_text() for kind in ("md", "tex"))
    page = (store / "report.html").read_text()
    for text in (out, table.replace("\\", ""), page.replace("&lt;", "<")):
        assert "C does not $matter$ (AP: |C = 3 - C = 5| < 30)" in " ".join(text.split()), text
        assert first["hash"] in text
        assert f"{first['locked_at']:%Y-%m-%d %H:%M}" in text
        assert "mine, Mine. Update interval" in text
    assert r"C does not \$matter\$" in latex
    assert first["hash"] in latex
    assert main([*command, "--dry-run"]) == 0
    assert f"locked {first['locked_at']:%Y-%m-%d %H:%M} UTC" in capsys.readouterr().out

    file.write_text(MODULE.replace("< 30", "< 25"))
    assert main(command) == 0
    assert "1 claim locked, 1 of them afterwards: their rows had begun to train" in capsys.readouterr().out
    assert main(["report", "--storage", str(store)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Of 3 claims" in out
    assert "(AP: |C = 3 - C = 5| < 25; added afterwards)" in out
    assert "(AP: |C = 3 - C = 5| < 30; dropped)" in out
    assert "added afterwards" in (store / "report.html").read_text()


@pytest.mark.slow
def test_they_stand_beside_the_papers(trainer, tmp_path: Path, capsys):
    storage = ["--scale", "smoke", "--storage", str(tmp_path)]
    assert main(["table3", *storage]) == 0
    file = tmp_path / "mine.yaml"
    file.write_text("rows: {none: {dynamic.dla: false, dynamic.dsl: false}, all: {}}\nclaims: ['AP: all > none']\n")
    assert main(["grid", str(file), *storage]) == 0
    assert trainer[-1] == [], "Table 3 has trained both rows"
    (claim,) = read_claims(ResultStore.open(tmp_path), "mine")
    assert claim["is_afterwards"]
    capsys.readouterr()
    assert main(["findings", *storage[2:]]) == 0
    out = capsys.readouterr().out
    assert "Of 39 claims: " in out
    assert out.index("A fixed IoU threshold of 0.4") < out.index("AP: all > none")


@pytest.mark.slow
def test_the_example_is_what_the_documentation_says(store: ResultStore):
    example = read_sweep(EXAMPLE.read_text(), EXAMPLE.stem).experiment(())
    claims = checked_claims(example, BASE.config)
    assert len(claims) >= 4
    lock_claims(store, example, BASE, [0], "dynrcnn grid experiments/claims.yaml")
    names = {row.labels["Setting"]: 40.0 + index for index, row in enumerate(example.rows(BASE.config))}
    train(store, example, {name: [number, number + 1.0, number + 1.9] for name, number in names.items()})
    assert {judgement.n for judgement in judged(store)} == {3}
