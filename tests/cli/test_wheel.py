"""The program as pip installs it: the wheel alone, in a folder that is no checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dynrcnn_ray.cli.program import program

REPOSITORY = Path(__file__).resolve().parents[2]


_FIGURE_AND_REPORT = """
import sys
from dynrcnn_ray.__main__ import main
for command in ("figure4", "report"):
    assert main([command, *sys.argv[1:]]) == 0
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("dynrcnn_ray", "benchmarks"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site"), str(source)],
        check=True,
    )
    return folder / "site"


def run(installed: Path, folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_checkout_is_used_from_any_folder(tmp_path: Path) -> None:
    """As an editable install does it: the package is found, what lies beside it is not."""
    finder = "import sys, runpy; sys.path.insert(0, sys.argv.pop(1)); import dynrcnn_ray; del sys.path[0]; "
    command = [sys.executable, "-P", "-c", finder + "runpy.run_module('dynrcnn_ray', run_name='__main__')"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [str(REPOSITORY), "benchmark", "--help"]
    done = subprocess.run(
        [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: dynrcnn benchmark ")


@pytest.mark.slow
def test_the_wheel_has_every_command_but_the_benchmarks(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "-m", "dynrcnn_ray")
    for command in program().commands:
        assert (f"  {command.name} " in listed) == (command.name != "benchmark"), command.name
    assert sorted(path.name for path in installed.iterdir() if "-" not in path.name) == ["bin", "dynrcnn_ray"]


@pytest.mark.slow
def test_the_wheel_draws_a_figure_of_the_paper_and_the_report(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "-c", _FIGURE_AND_REPORT, "--scale", "smoke", "--storage", str(tmp_path / "store"))
    assert (tmp_path / "store" / "figures" / "figure4.png").stat().st_size > 5000
    assert "Figure 4" in (tmp_path / "store" / "report.html").read_text()
