"""The command `inspect` on a trained trial, and what the page draws of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dynrcnn_ray
from dynrcnn_ray.cli.program import program
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.shapes import CATEGORIES
from dynrcnn_ray.report.html.page import draw_html_report, read_trials
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.inspect.command import COMMAND
from dynrcnn_ray.tools.inspect.inspection import read_inspection, write_inspection
from tests.cli.calls import call
from tests.prepared import prepared
from tests.stored_table import plan_row, trial_row


@pytest.fixture(autouse=True)
def _cache(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


@pytest.mark.slow
def test_a_trial_is_inspected_and_drawn(trained: tuple[Path, TrialConfig], capsys: pytest.CaptureFixture[str]):
    folder, config = trained
    assert call(COMMAND, prepared(config).trial_id, "--storage", str(folder), "--min-score", "0.05") == 0
    printed = capsys.readouterr().out
    store = ResultStore.open(folder)
    found = read_inspection(store, prepared(config).trial_id)
    assert found is not None
    assert [row["name"] for row in found.classes] == [*CATEGORIES.values(), "background"]
    stored = store.trials([prepared(config).trial_id])["AP"].iloc[0]
    measured = [row["AP"] for row in found.classes if row["AP"] is not None]
    assert sum(measured) / len(measured) == pytest.approx(stored, abs=1e-9)
    objects = sum(row["objects"] for row in found.classes)
    assert sum(sum(row["found_as"]) for row in found.classes[:-1]) == objects, "every object is somewhere"
    for text in ("| circle ", "| Loc ", "not found", "8 images of val", "score from 0.05"):
        assert text in printed

    page = Path(draw_html_report(store, read_trials(store), program().page_sections())).read_text()
    assert "Where trials fail" in page
    assert f"Trial {prepared(config).trial_id}: trial" in page
    assert "circle: precision" in page
    assert "missed: no detection accounts for the object" in page


@pytest.mark.slow
def test_a_trial_of_another_machine_is_inspected_where_the_data_are(
    trained: tuple[Path, TrialConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, config = trained
    here = Path(shutil.copytree(config.data.root, tmp_path / "here"))
    printed = []
    for options in ((), ("--data.root", str(here))):
        assert call(COMMAND, prepared(config).trial_id, "--storage", str(folder), *options) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    (here / "annotations" / "instances_val.json").unlink()
    with pytest.raises(DataError, match=re.escape(str(here))):
        call(COMMAND, prepared(config).trial_id, "--storage", str(folder), "--data.root", str(here))


def test_what_is_wrong_is_reported(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    with pytest.raises(ConfigError, match="trial: missing"):
        call(COMMAND)
    with pytest.raises(ConfigError, match=r"--min-score: 1\.5 must be from 0 to 1"):
        call(COMMAND, prepared(config).trial_id, "--min-score", "1.5")
    with pytest.raises(StoreError, match="holds no trial '000000000000'"):
        call(COMMAND, "000000000000", "--storage", str(folder))


@pytest.mark.slow
def test_without_the_tool_the_page_is_drawn_without_its_section(tmp_path: Path):
    package = shutil.copytree(
        Path(dynrcnn_ray.__file__).parent, tmp_path / "dynrcnn_ray", ignore=shutil.ignore_patterns("__pycache__")
    )
    store = ResultStore.open(tmp_path / "store")
    store.write_trial(trial_row("row0seed0"))
    store.write_plan("table3", [plan_row(0)])
    error = {"kind": "Cls", "meaning": "another class", "count": 1, "AP50_gain": 0.5, "min_score": 0.5}
    write_inspection(store, "row0seed0", [], [error])
    command = [sys.executable, "-m", "dynrcnn_ray", "report", "--storage", store.files.root]
    has_section = []
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True)
        has_section.append("Where trials fail" in (tmp_path / "store" / "report.html").read_text())
        shutil.rmtree(package / "tools" / "inspect", ignore_errors=True)
    assert has_section == [True, False]
