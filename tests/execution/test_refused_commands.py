"""A refused command leaves the storage as it was: nothing is written before all that can refuse has been asked."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.execution import cluster, nodes
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.experiment.experiment import SEARCH_RESULT, SEARCHED
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training import environment
from experiments.main import main
from tests.stored_table import dynamics_rows, trial_row

NOBODY = "http://127.0.0.1:9"
KI = ("--name", "ki", "--axis", "dynamic.iou-top-k", "64", "100")


def content(storage: Path) -> dict[str, bytes]:
    """Every file of the storage, by its path."""
    return {str(file.relative_to(storage)): file.read_bytes() for file in storage.rglob("*") if file.is_file()}


@pytest.fixture
def run(
    tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command on the storage; without a GPU and without patience for servers that are away."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(environment, "driver_cuda_version", lambda: None)

    def run_command(name: str, *arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([name, *arguments, "--scale", "smoke", "--storage", str(tmp_path)])
        return code, capsys.readouterr().err

    return run_command


@pytest.fixture(scope="module")
def finished_once(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with Table 3 and a grid, both finished."""

    def train(trials: Sequence[grid.PlannedTrial], *, storage: str, **_: Any) -> None:
        store = ResultStore.open(storage)
        for trial in trials:
            store.write_dynamics(trial.trial.trial_id, dynamics_rows(0, 0))
            described = {"seed": trial.trial.config.seed, "scale": "smoke", "config": to_stored(trial.trial)}
            store.write_trial(trial_row(trial.trial.trial_id, **described))

    storage = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(grid, "run_trials", train)
        for command in (["table3"], ["grid", *KI]):
            assert main([*command, "--scale", "smoke", "--storage", str(storage)]) == 0
    return storage


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> dict[str, bytes]:
    """The content of the storage, which holds that."""
    shutil.copytree(finished_once, tmp_path, dirs_exist_ok=True)
    return content(tmp_path)


REFUSALS = (
    (["--run.mlflow", NOBODY], "does not answer"),
    (["--run.gpu", "1"], "no usable GPU"),
    (["--model.weights", "/nowhere.npz"], "model.weights: '/nowhere.npz' is no file"),
    (["--model.module", "/nowhere.py"], "model.module: '/nowhere.py' is no file"),
    (["--model.detector-weights", "0123456789ab"], "holds no trial '0123456789ab'"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["table3", "--train.steps", "8"],
        ["all", "--train.steps", "8"],
        ["grid", *KI, "--seeds", "1"],
        ["grid", "--name", "new", "--axis", "dynamic.iou-top-k", "150"],
        ["train", "--train.steps", "8"],
        ["search", "--name", "best", "--range", "dynamic.iou-top-k", "32", "64"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_a_refused_command_leaves_the_storage_as_it_was(
    run: Callable[..., tuple[int, str]], finished: dict[str, bytes], tmp_path: Path, command: list[str]
):
    for flags, message in REFUSALS:
        code, err = run(*command, *flags)
        assert (code, err.count("error: ")) == (2, 1)
        # A grid of this name has another base.
        assert message in err or " is not what the rows of " in err
        assert content(tmp_path) == finished


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--choice", "model.weights", "none", "/nowhere.npz"], "model.weights: '/nowhere.npz' is no file"),
        (["--choice", "model.detector-weights", "coco", "0123456789ab"], "holds no trial '0123456789ab'"),
        (["--choice", "model.module", "", "/nowhere.py"], "model.module: '/nowhere.py' is no file"),
        (
            ["--range", "dynamic.iou-top-k", "32", "64", "--baseline", "model.detector-weights=0123456789ab"],
            "holds no trial '0123456789ab'",
        ),
    ],
    ids=lambda given: given[1] if isinstance(given, list) else "",
)
def test_what_a_search_needs_at_any_time_is_asked_for_before_it_starts(
    run: Callable[..., tuple[int, str]], tmp_path: Path, flags: list[str], message: str
):
    code, err = run("search", "--name", "best", *flags)
    assert code == 2
    assert message in err
    assert not content(tmp_path)


def test_a_speed_is_not_measured_where_it_cannot_be_stored(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def measure(*_: Any, **__: Any) -> None:
        raise AssertionError("it measures")

    monkeypatch.setattr("dynrcnn_ray.paper.table7_body.measure_speed", measure)
    file = tmp_path / "file"
    file.touch()
    assert main(["table7", "--scale", "smoke", "--storage", str(file / "store")]) == 2
    code, err = run("table7", "--model.weights", "/nowhere.npz")
    assert code == 2
    assert "model.weights: '/nowhere.npz' is no file" in err


@pytest.mark.slow
def test_too_many_workers(
    run: Callable[..., tuple[int, str]], finished: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """For a node of two cores; `test_cluster` asks a real one."""
    node = {"Alive": True, "Resources": {"CPU": 2.0, "node:__internal_head__": 1.0}}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [node])
    monkeypatch.setattr(grid, "ray_cluster", contextlib.nullcontext)
    many = ["--num-workers", "4096", "--train.global-batch", "4096", "--train.shards", "4096", "--train.steps", "4096"]
    code, err = run("table3", *many)
    assert code == 2
    assert "4096 workers of 1 CPU each do not fit" in err
    assert content(tmp_path) == finished


@pytest.mark.slow
def test_nodes_that_would_not_see_the_storage(
    run: Callable[..., tuple[int, str]], finished: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(grid, "ray_cluster", contextlib.nullcontext)
    monkeypatch.setattr(grid, "trials_at_once", lambda _: 1)
    monkeypatch.setattr(nodes, "may_add_nodes", lambda: True)
    monkeypatch.setattr(nodes, "kind_of_file_system", lambda _: "ext4")
    for command in (["table3", "--train.steps", "8"], ["grid", "--name", "new", *KI[2:], "150"]):
        code, err = run(*command)
        assert code == 2
        assert "the nodes that the autoscaler may start would not see" in err
        assert content(tmp_path) == finished


@pytest.mark.slow
def test_who_ends_a_command_while_ray_starts_finds_the_storage_as_it_was(
    run: Callable[..., tuple[int, str]], finished: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "_join_or_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("table3", "--train.steps", "8")
    assert content(tmp_path) == finished


@pytest.mark.slow
def test_the_name_of_another_kind_of_table_is_refused(
    run: Callable[..., tuple[int, str]], finished: dict[str, bytes], tmp_path: Path
):
    """A search's table takes the place of an earlier one of its name: that of a grid would be lost."""
    search = ["--range", "dynamic.iou-top-k", "32", "64"]
    code, err = run("search", "--name", "ki", *search)
    assert code == 2
    assert f"name: 'ki' is that of a table in {tmp_path}; choose another name" in err
    assert content(tmp_path) == finished
    store = ResultStore.open(tmp_path)
    plan = store.plan("ki")
    assert plan is not None
    for name, anchor in (("best", SEARCH_RESULT), ("best_search", SEARCHED)):
        store.write_plan(name, plan.drop(columns="experiment").assign(anchor=anchor, baseline_row=0).to_dict("records"))
        code, err = run("grid", "--name", name, *KI[2:])
        assert code == 2
        assert f"name: '{name}' is that of a search in {tmp_path}; choose another name" in err


@pytest.mark.slow
def test_a_grids_base_that_is_no_text(run: Callable[..., tuple[int, str]], finished: dict[str, bytes], tmp_path: Path):
    file = tmp_path / "grids" / "ki.yaml"
    for damage, what in ((b"\xff\xfe", "is no UTF-8"), (b"seed: [", "is not valid YAML")):
        file.write_bytes(damage)
        code, err = run("grid", *KI)
        assert code == 2
        assert f"{file}: " in err
        assert what in err
        assert err.count("\n") == 1
        assert content(tmp_path) == finished | {"grids/ki.yaml": damage}
