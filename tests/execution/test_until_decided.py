"""Seeds are added until the claims are decided. Made-up numbers stand in the place of training, but for one test."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.execution.until_decided import Course, UntilDecided
from dynrcnn_ray.experiment.experiment import Seeds
from dynrcnn_ray.experiment.sweep import Sweep
from dynrcnn_ray.paper.findings import paper_claims
from dynrcnn_ray.paper.paper import EXPERIMENTS
from dynrcnn_ray.statistics.looks import LOOKS
from dynrcnn_ray.store.claims import read_claims
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main
from tests.execution.commands import run_command
from tests.stored_table import trial_row

BASE = Trial(base_config("smoke"))
ROWS: dict[str, dict[str, Any]] = {
    "baseline": {"dynamic.dla": False, "dynamic.dsl": False},
    "DLA": {"dynamic.dsl": False},
    "DSL": {"dynamic.dla": False},
    "both": {},
    "k64": {"dynamic.iou_top_k": 64},
}
CLAIMS = ["AP: DLA > baseline", "AP: DSL > baseline", "AP: both > baseline"]
"""Decided at the first look, at the second one, and never."""
SEEDS_AT_8 = {"baseline": 8, "DLA": 3, "DSL": 5, "both": 8, "k64": 3}
FILE = "baseline: baseline\nrows:\n" + "".join(f"  {name}: {fields}\n" for name, fields in ROWS.items())


def ap(config: TrialConfig) -> float:
    seed = config.seed
    gain = {
        (False, False): 0.0,
        (True, False): 5 + 0.02 * (seed % 2),
        (False, True): 3 + 0.5 * (-1, 1, 0, 1, -1)[seed % 5],
        (True, True): 3.0 * (-1) ** seed,
    }
    return 40 + seed + gain[config.dynamic.dla, config.dynamic.dsl]


def write(store: ResultStore, trial: Trial, **changes: Any) -> None:
    row = {"seed": trial.config.seed, "scale": "smoke", "config": to_stored(trial), "AP": ap(trial.config), **changes}
    store.write_trial(trial_row(trial.trial_id, **row))


def course(store: ResultStore, *claims: Any, at_most: int = 20) -> Course:
    experiment = Sweep(name="mine", title="Mine", rows=ROWS, claims=list(claims)).experiment(())
    return Course.of(store, [experiment], BASE, UntilDecided(paper_claims(), at_most))


def trained(of: Course) -> Iterator[dict[str, int]]:
    """The numbers of seeds at each look, by row. What a look lacks is written before the next one."""
    (experiment,) = of.experiments
    for seeds in of.looks():
        yield counted(seeds["mine"])
        for _, trial in experiment.trials(BASE, seeds["mine"]).values():
            write(of.store, trial)


def counted(seeds: Seeds) -> dict[str, int]:
    return {name: len(seeds[row]) for row, name in enumerate(ROWS)}  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore.open(tmp_path / "store")


def test_rows_of_decided_claims_get_no_more_seeds(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    assert list(trained(course(store, *CLAIMS, at_most=8))) == [
        dict.fromkeys(ROWS, 3),
        {**SEEDS_AT_8, "baseline": 5, "both": 5},
        SEEDS_AT_8,
    ]
    assert capsys.readouterr().out.splitlines() == [
        "Look at 3 seeds: 1 of 3 claims decided; 2 go on, 3 rows get more seeds.",
        "  confirmed: AP: DLA > baseline",
        "Look at 5 seeds: 2 of 3 claims decided; 1 go on, 2 rows get more seeds.",
        "  confirmed: AP: DSL > baseline",
        "Look at 8 seeds: 2 of 3 claims decided; none goes on.",
        "  undecided: AP: both > baseline (may hide up to: AP -3.7)",
    ]


def test_all_looks_are_taken_and_no_more(store: ResultStore):
    *_, last = trained(course(store, *CLAIMS))
    assert last == {"baseline": 20, "DLA": 3, "DSL": 5, "both": 20, "k64": 3}


def test_it_ends_when_all_is_decided(store: ResultStore):
    assert list(trained(course(store, *CLAIMS[:1]))) == [dict.fromkeys(ROWS, 3)]


def test_a_confirmed_difference_of_an_open_claim_needs_no_more_seeds(store: ResultStore):
    *_, last = trained(course(store, "AP: DLA, both > baseline", at_most=5))
    assert last == {"baseline": 5, "DLA": 3, "DSL": 3, "both": 5, "k64": 3}


def test_a_claim_that_is_contradicted_is_decided(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    assert len(list(trained(course(store, "AP: DLA < baseline")))) == 1
    assert "  contradicted: AP: DLA < baseline" in capsys.readouterr().out


def test_what_no_trial_has_measured_gets_no_more_seeds(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    assert len(list(trained(course(store, "late loss: both > baseline")))) == 1
    assert "  not measured: late loss: both > baseline" in capsys.readouterr().out


def test_more_seeds_in_the_store_do_not_change_the_looks(store: ResultStore):
    expected = list(trained(course(store, *CLAIMS)))
    assert list(trained(course(store, *CLAIMS))) == expected


def test_the_papers_claims_count_where_all_rows_are_trained(store: ResultStore):
    one = Course.of(
        store, [each for each in EXPERIMENTS if each.name == "table3"], BASE, UntilDecided(paper_claims(), 20)
    )
    every = Course.of(store, EXPERIMENTS, BASE, UntilDecided(paper_claims(), 20))
    assert {claim.experiment for claim in one.claims} == {"table3"}
    assert {claim.experiment for claim in every.claims} == {claim.experiment for claim in paper_claims()} - {"table7"}


@pytest.fixture
def trainings(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """In the place of training: the ids of each grid; Ctrl-C after so many trials, and the seed of DSL that fails."""
    state: dict[str, Any] = {"grids": [], "interrupt_after": None, "failing_seed": None}

    def run_trials(trials: Sequence[grid.PlannedTrial], *, storage: str, on_start: Any, **_: Any) -> None:
        on_start()
        store = ResultStore.open(storage)
        state["grids"].append(ids := [])
        for planned in trials:
            if state["interrupt_after"] is not None and sum(map(len, state["grids"])) >= state["interrupt_after"]:
                raise KeyboardInterrupt
            config = planned.trial.config
            fails = planned.setting == "DSL" and config.seed == state["failing_seed"]
            write(store, planned.trial, **({"status": "failed", "error": "burnt", "AP": None} if fails else {}))
            ids.append(planned.trial.trial_id)

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(grid, "run_trials", run_trials)
    return state


def command(folder: Path, *arguments: str, claims: Sequence[str] = CLAIMS) -> list[str]:
    file = folder / "mine.yaml"
    file.write_text(f"{FILE}claims: {list(claims)!r}\nseeds: [0, 1, 2, 3]\n")
    return ["grid", str(file), "--scale", "smoke", "--storage", str(folder / "store"), "--until-decided", *arguments]


def planned_seeds(folder: Path) -> dict[str, int]:
    plan = ResultStore.open(folder / "store").plan("mine")
    assert plan is not None
    return {name: list(plan["row"]).count(row) for row, name in enumerate(ROWS)}


def test_a_command_trains_looks_and_draws_a_table_of_rows_with_their_own_seeds(
    trainings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(command(tmp_path, "--at-most-seeds", "8")) == 0
    out = capsys.readouterr().out
    place = tmp_path / "store"
    assert f"Until 3 claims are decided, or 8 seeds: at most 35 trials, 0 of them in {place}; " in out
    assert out.index("at most 35 trials") < out.index("15 trials to run") < out.index("Look at 3 seeds")
    assert [len(ids) for ids in trainings["grids"]] == [15, 6, 6]
    assert planned_seeds(tmp_path) == SEEDS_AT_8
    table = pd.read_parquet(place / "tables" / "mine.parquet")
    assert table["n"].tolist() == table["n_planned"].tolist() == list(SEEDS_AT_8.values())
    assert table["delta_n"].tolist() == [8, 3, 5, 8, 3]
    locked = {claim["line"]: claim for claim in read_claims(ResultStore.open(place), "mine")}
    assert [len(locked[line]["rows"][row]) for line, row in zip(CLAIMS, ("DLA", "DSL", "both"), strict=True)] == [
        3,
        5,
        8,
    ]
    assert not any(claim["is_afterwards"] for claim in locked.values())

    assert main(command(tmp_path, "--at-most-seeds", "8")) == 0
    assert len(trainings["grids"]) == 3, "nothing is trained again"
    assert main(command(tmp_path, "--at-most-seeds", "12")) == 0
    assert len(trainings["grids"][3]) == 8, "a later end goes on from there"
    assert main(["findings", "--storage", str(place)]) == 0
    assert "Of 3 claims: 2 confirmed, 0 contradicted, 1 undecided" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("after", [0, 4, 15, 18])
def test_the_same_command_goes_on_where_it_was_interrupted(trainings: dict[str, Any], tmp_path: Path, after: int):
    trainings["interrupt_after"] = after
    with pytest.raises(KeyboardInterrupt):
        main(command(tmp_path, "--at-most-seeds", "8"))
    trainings["interrupt_after"] = None
    assert main(command(tmp_path, "--at-most-seeds", "8")) == 0
    ids = [trial_id for each in trainings["grids"] for trial_id in each]
    assert len(ids) == len(set(ids)) == sum(SEEDS_AT_8.values())
    assert planned_seeds(tmp_path) == SEEDS_AT_8


def test_a_claim_waits_for_a_failed_trial_and_the_others_go_on(
    trainings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    trainings["failing_seed"] = 1
    assert main(command(tmp_path, "--at-most-seeds", "8")) == 1
    out = capsys.readouterr().out
    assert out.count("  waits for trials that have not finished (1): AP: DSL > baseline\n") == 1
    assert "burnt. The same command runs it again." in out
    assert planned_seeds(tmp_path) == {**SEEDS_AT_8, "DSL": 3}
    trainings["failing_seed"] = None
    assert main(command(tmp_path, "--at-most-seeds", "8")) == 0
    assert planned_seeds(tmp_path) == SEEDS_AT_8


def test_a_dry_run_shows_the_next_look_and_the_most_that_all_need(
    trainings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(command(tmp_path, "--dry-run")) == 0
    out = capsys.readouterr().out
    assert "Until 3 claims are decided, or 20 seeds: at most 83 trials, 0 of them in " in out
    assert "The next look needs 15 new trials, about " in out
    assert "mine, scale smoke: 5 rows, 15 distinct trials, 0 of them" in out
    assert not (tmp_path / "store").exists()
    trainings["interrupt_after"] = 17
    with pytest.raises(KeyboardInterrupt):
        main(command(tmp_path))
    capsys.readouterr()
    assert main(command(tmp_path, "--dry-run")) == 0
    out = capsys.readouterr().out
    assert "Look at 3 seeds: 1 of 3 claims decided; 2 go on, 3 rows get more seeds." in out
    assert "The next look needs 4 new trials, about " in out
    assert "mine, scale smoke: 5 rows, 21 distinct trials, 17 of them" in out


@pytest.mark.slow
def test_the_dry_run_of_all_counts_the_next_looks_trials(
    trainings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["all", "--scale", "smoke", "--storage", str(tmp_path), "--dry-run"]
    assert main([*arguments, "--seeds", "0", "1", "2"]) == 0
    fixed = capsys.readouterr().out
    assert main([*arguments, "--until-decided"]) == 0
    until = capsys.readouterr().out
    assert f"or {LOOKS[-1]} seeds: at most " in until
    assert until[until.index("| experiment") :] == fixed[fixed.index("| experiment") :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table3", "--until-decided", "--seeds", "0", "1"], "--seeds: --until-decided chooses the seeds"),
        (["all", "--until-decided", "--seeds=0"], "--seeds: --until-decided chooses the seeds"),
        (
            ["all", "--until-decided", "--at-most-seeds", "10"],
            "10 is no look; claims are looked at after 3, 5, 8, 12 and",
        ),
        (["table3", "--at-most-seeds", "5"], "--at-most-seeds: 5 has no effect without --until-decided; add it"),
        (["table9", "--until-decided"], "--until-decided: table9 has no claim that could be decided; state some under"),
        (
            ["grid", "--until-decided", "--name", "mine", "--axis", "dynamic.iou-top-k", "64", "75"],
            "--until-decided: mine has no claim that could be decided; state some under",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_mistake_is_refused_before_anything_starts(
    trainings: dict[str, Any], tmp_path: Path, capsys, arguments: list[str], message: str, dry_run: bool
):
    store = tmp_path / "store"
    asked = [*arguments, "--scale", "smoke", "--storage", str(store), *(["--dry-run"] if dry_run else [])]
    assert main(asked) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not store.exists()


@pytest.mark.ray
@pytest.mark.slow
def test_with_ray_from_look_to_look(
    cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Its claims are locked before the first trial has ended. On one core: one process trains what a look lacks."""
    file, storage = tmp_path / "mine.yaml", tmp_path / "store"
    file.write_text(
        "rows: {dynamic: {}, fixed: {dynamic.dla: false, dynamic.dsl: false}}\n"
        "claims: ['late loss: |dynamic - fixed| < 99', 'late loss: dynamic > fixed']\n"
    )
    size = ("--scale", "smoke", "--train.steps", "4", "--num-workers", "1")
    arguments = ("grid", str(file), *size, "--storage", str(storage), "--until-decided", "--at-most-seeds", "5")
    code, out = run_command(cache_home, *arguments, RAY_OVERRIDE_RESOURCES='{"CPU": 1}')
    assert code == 0, out
    assert "mine: 2 claims locked; `dynrcnn findings` judges them." in out
    assert "Look at 3 seeds: 1 of 2 claims decided; 1 go on, 2 rows get more seeds." in out
    assert "Look at 5 seeds: " in out
    store = ResultStore.open(storage)
    trials = store.trials()
    assert len(trials) == 10
    for claim in read_claims(store, "mine"):
        assert not claim["is_afterwards"]
        assert claim["locked_at"] < trials["finished_at"].min()
    assert main(["findings", "--storage", str(storage)]) == 0
    assert "Of 2 claims: " in capsys.readouterr().out

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(grid, "run_trials", lambda *_, **__: pytest.fail("something is trained"))
    assert main(arguments) == 0
    assert "nothing to train, all 10 trials are in" in capsys.readouterr().out
