"""`report --watch` beside what writes to the store: it draws what arrives, goes on where it cannot, and ends."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dynrcnn_ray.__main__ import main
from dynrcnn_ray.commands import report_body
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main as papers_main
from tests.execution.commands import read_until, start_command
from tests.prepared import prepared
from tests.stored_table import dynamics_rows, plan_row, trial_row

REPOSITORY = Path(__file__).resolve().parents[2]


def write_finished(store: ResultStore, row: int) -> None:
    store.write_dynamics(f"row{row}seed0", dynamics_rows(row, 0))
    store.write_trial(trial_row(f"row{row}seed0", AP=50.0 + row))


@pytest.mark.slow
def test_it_draws_what_arrives_and_a_signal_ends_it_in_one_line(tmp_path: Path):
    store = ResultStore.open(tmp_path / "store")
    process = start_command(tmp_path, "report", "--watch", "--every", "1", "--storage", store.files.root)
    read_until(process, "store/ is not there yet")
    write_finished(store, 0)
    store.write_running(trial_row("row1seed0", status="running", AP=None))
    store.write_plan("table3", [plan_row(row) for row in range(3)])
    read_until(process, "1 finished, 1 running, 0 failed: ")
    page = tmp_path / "store" / "report.html"
    assert "51.0" not in page.read_text()
    assert 'http-equiv="refresh" content="1"' in page.read_text()
    write_finished(store, 1)
    read_until(process, "2 finished, 0 running, 0 failed: ")
    assert "51.0" in page.read_text()
    assert "51.0" in (tmp_path / "store" / "tables" / "table3.md").read_text()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate()
    *drawn, last = rest.splitlines()
    assert (process.returncode, last) == (143, "interrupted")
    assert not [line for line in drawn if "2 finished" not in line]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What happens to the store while the watch sleeps, one for each sleep."""
    left: list[Callable[[], object]] = []
    monkeypatch.setattr(report_body.time, "sleep", lambda _seconds: left.pop(0)())
    yield left
    assert not left


@pytest.mark.slow
def test_a_drawing_that_fails_is_reported_and_the_next_one_succeeds(
    looks: list[Callable[[], object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    store = ResultStore.open(tmp_path)
    store.write_plan("table3", [plan_row(0), plan_row(1)])
    running = tmp_path / "running" / "row0seed0.parquet"

    def cut_short() -> None:
        running.parent.mkdir(exist_ok=True)
        running.write_bytes(b"half a file")

    def page_that_is_a_folder() -> None:
        running.unlink()
        (tmp_path / "report.html").unlink()
        (tmp_path / "report.html").mkdir()

    looks += [cut_short, page_that_is_a_folder, (tmp_path / "report.html").rmdir]
    looks += [lambda: write_finished(store, 0), lambda: write_finished(store, 1), lambda: None]
    assert main(["report", "--watch", "--storage", str(tmp_path)]) == 0
    lines = [line[10:].split(str(tmp_path))[0] for line in capsys.readouterr().out.splitlines()[:6]]
    assert lines == [
        "0 finished, 0 running, 0 failed: ",
        "not drawn: ",
        "not drawn: ",
        "0 finished, 0 running, 0 failed: ",
        "1 finished, 0 running, 0 failed: ",
        "every planned trial has ended",
    ]
    assert "51.0" in (tmp_path / "report.html").read_text()
    assert "http-equiv" not in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_search_that_plans_its_next_trial_when_one_has_ended_is_watched_on(
    looks: list[Callable[[], object]], tmp_path: Path, capsys
):
    store = ResultStore.open(tmp_path)
    store.write_plan("table3", [plan_row(0)])

    def end_the_first() -> None:
        write_finished(store, 0)

    def plan_a_second() -> None:
        store.write_plan("later", [plan_row(1)])

    looks += [end_the_first, plan_a_second, lambda: write_finished(store, 1), lambda: None]
    assert main(["report", "--watch", "--storage", str(tmp_path)]) == 0
    assert (tmp_path / "tables" / "later.md").is_file()
    assert "later" in capsys.readouterr().out


@pytest.mark.slow
def test_a_finished_store_is_drawn_at_once(looks: list[Callable[[], object]], tmp_path: Path):
    store = ResultStore.open(tmp_path)
    store.write_plan("table3", [plan_row(0)])
    write_finished(store, 0)
    assert main(["report", "--watch", "--storage", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").is_file()


def test_a_wrong_interval_is_refused(capsys):
    assert main(["report", "--watch", "--every", "0"]) == 2
    assert capsys.readouterr().err == "error: --every: 0 must be 1 or greater\n"


def test_a_store_that_holds_speeds_alone_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "tables").mkdir()
    shutil.copy(REPOSITORY / "experiments" / "reference_mini" / "tables" / "table7.parquet", tmp_path / "tables")
    assert papers_main(["report", "--storage", str(tmp_path)]) == 0
    assert "Table 7" in capsys.readouterr().out
    assert "Table 7" in (tmp_path / "report.html").read_text()


def test_mlflow_gets_the_page_that_report_draws(
    smoke: TrialConfig, tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the sections of all commands: here that of the speeds, in a store whose trial has finished."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    store, runs = tmp_path / "store", f"file://{tmp_path}/runs"
    trial = prepared(smoke)
    ResultStore.open(store).write_trial(trial_row(trial.trial_id, scale="smoke", config=to_stored(trial)))
    (store / "tables").mkdir()
    shutil.copy(REPOSITORY / "experiments" / "reference_mini" / "tables" / "table7.parquet", store / "tables")
    options = ["--scale", "smoke", "--storage", str(store)]
    assert main(["train", *options]) == 0
    assert main(["report", *options]) == 0
    drawn = (store / "report.html").read_text()
    assert main(["train", *options, "--run.mlflow", runs]) == 0
    client = MlflowClient(runs)
    experiment = client.get_experiment_by_name(f"train_{trial.trial_id}")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    logged = Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))).read_text()
    assert re.findall("<section id=.*", logged) == re.findall("<section id=.*", drawn)
    assert '<section id="table7">' in logged
