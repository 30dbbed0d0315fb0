"""The commands on a finished store with a damaged file: exit code 2, one line with file and remedy, nothing lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.schema import BENCHMARKS
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.paper import figure1, figure2, figure3, figure5, table3
from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import PROPOSALS, VERSION_KEY
from experiments.main import main
from tests.prepared import prepared
from tests.stored_table import dynamics_rows, trial_row

pytestmark = pytest.mark.slow

_CORNERS = {name: np.array([value], np.float32) for name, value in (("x1", 1), ("y1", 2), ("x2", 9), ("y2", 9))}


@pytest.fixture(scope="module")
def finished(smoke: TrialConfig, cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table 3 and the figures of trials, at scale smoke, with made-up measurements."""
    store = ResultStore.open(tmp_path_factory.mktemp("finished") / "store")
    experiments = [module.EXPERIMENT for module in (table3, figure1, figure2, figure3, figure5)]
    base = prepared(smoke)
    trials = {key: trial for experiment in experiments for key, trial in experiment.trials(base, seeds=(0,)).items()}
    for row, (trial_id, (setting, trial)) in enumerate(trials.items()):
        store.write_dynamics(trial_id, dynamics_rows(row % 4, seed=0))
        store.write_proposals(trial_id, _proposals())
        store.write_detections(trial_id, _detections())
        store.write_trial(trial_row(trial_id, setting=setting, scale="smoke", AP=50.0 + row, config=to_stored(trial)))
    for experiment in experiments:
        store.write_plan(experiment.name, experiment.plan(base, (0,), f"python experiments/main.py {experiment.name}"))
    return Path(store.files.root)


def _proposals() -> dict[str, np.ndarray]:
    types = {"int64": np.int64, "float": np.float32, "bool": np.bool_}
    columns = {field.name: np.ones(8, types[str(field.type)]) for field in PROPOSALS if field.name != "trial_id"}
    return columns | {"step": np.repeat([2, 10], 4), "dx": np.linspace(-0.1, 0.1, 8, dtype=np.float32)}


def _detections() -> dict[str, np.ndarray]:
    return {"image_id": np.array([1]), "category_id": np.array([1]), "score": np.array([0.9], np.float32)} | _CORNERS


@pytest.fixture
def root(finished: Path, cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    return Path(shutil.copytree(finished, tmp_path / "store"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_text("not a table\n")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[300] ^= 4
    path.write_bytes(content)


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"trial_id": [path.stem]}), path)


def newer(path: Path) -> None:
    pq.write_table(pq.read_table(path, partitioning=None).replace_schema_metadata({VERSION_KEY: b"99"}), path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_another(path: Path) -> None:
    other = next(other for other in sorted(path.parent.iterdir()) if other != path)
    path.write_bytes(other.read_bytes())


DAMAGES = (truncate, empty, overwrite, flip, foreign, newer, folder, of_another)


def content_of(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def trials_of(root: Path, experiment: str) -> list[str]:
    return pq.read_table(root / f"plans/{experiment}.parquet", partitioning=None)["trial_id"].to_pylist()


def leave_table3_alone(root: Path) -> None:
    """A report of the store then draws nothing else, which takes seconds."""
    for plan in (root / "plans").glob("figure*.parquet"):
        plan.unlink()


def arguments_of(command: str, trials: list[str]) -> list[str]:
    return {
        "report": ["report"],
        "table3": ["table3", "--scale", "smoke"],
        **{figure: [figure, "--scale", "smoke"] for figure in ("figure1", "figure2", "figure3", "figure5")},
        "compare": ["compare", *trials[:2], "--samples", "2"],
        "evaluate": ["evaluate", trials[0]],
    }[command]


CASES = [
    *[("report", "trials/{}.parquet", damage) for damage in DAMAGES],
    *[("report", "plans/table3.parquet", damage) for damage in (truncate, foreign)],
    *[("table3", "trials/{}.parquet", damage) for damage in (truncate, flip, folder, of_another)],
    *[("table3", "dynamics/{}.parquet", damage) for damage in (truncate, flip)],
    ("table3", "plans/table3.parquet", folder),
    *[("figure1", "dynamics/{}.parquet", damage) for damage in (truncate, flip)],
    *[("figure2", "proposals/{}.parquet", damage) for damage in (truncate, flip, of_another)],
    *[("figure3", "proposals/{}.parquet", damage) for damage in (truncate, flip)],
    *[("figure5", "dynamics/{}.parquet", damage) for damage in (truncate, flip)],
    *[("compare", "detections/{}.parquet", damage) for damage in DAMAGES],
    ("compare", "trials/{}.parquet", flip),
    ("evaluate", "trials/{}.parquet", flip),
]


@pytest.mark.parametrize(("command", "file", "damage"), CASES)
def test_a_damaged_file_is_named_with_the_remedy(
    root: Path, command: str, file: str, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    trials = trials_of(root, command if command.startswith("figure") else "table3")
    path = root / file.format(trials[0])
    if command == "report":
        leave_table3_alone(root)
    damage(path)
    before = content_of(root)

    code = main([*arguments_of(command, trials), "--storage", str(root)])

    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert line.startswith(f"error: {path} ")
    assert "; move it" in line or "; move that folder" in line or "; make room, free the path" in line
    after = content_of(root)
    kept = ("trials", "dynamics", "proposals", "detections")
    assert {path: content for path, content in before.items() if path.parent.name in kept}.items() <= after.items()


def test_a_damaged_row_is_reported_before_missing_trials_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, damaged = (root / "trials" / f"{trial}.parquet" for trial in trials_of(root, "table3")[:2])
    missing.unlink()
    truncate(damaged)
    assert main(["table3", "--scale", "smoke", "--storage", str(root)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {damaged} ")
    assert "to run" not in printed.out


@pytest.mark.parametrize("damage", [truncate, foreign])
def test_a_damaged_plan_is_replaced_by_its_own_command(
    root: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(root / "plans" / "table3.parquet")
    assert main(["table3", "--scale", "smoke", "--storage", str(root)]) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert ResultStore.open(root).plan("table3") is not None


def test_a_configuration_of_another_release_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "trials" / f"{trials_of(root, 'table3')[0]}.parquet"
    ResultStore.open(root).write_trial(trial_row(path.stem, scale="smoke", config="dynamic: {gone: 1}"))
    for arguments in (["evaluate", path.stem], ["compare", path.stem, path.stem]):
        assert main([*arguments, "--storage", str(root)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path}: its configuration is of another release: dynamic.gone: unknown field; ")
    leave_table3_alone(root)
    assert main(["report", "--storage", str(root)]) == 0, "it shows rows, whatever made them"


def test_benchmark_measures_nothing_before_it_knows_its_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "tables" / "benchmarks.parquet"
    path.parent.mkdir()
    path.write_bytes(to_parquet_bytes(BENCHMARKS.empty_table(), "tables/benchmarks.parquet"))
    truncate(path)
    assert main(["benchmark", "--only", "loader", "--storage", str(root)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {path} ")
    assert "loader" not in printed.out
