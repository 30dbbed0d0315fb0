"""The program as pip installs it: the wheel alone, in a folder that is no checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dynrcnn_ray.cli.program import program

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "cluster/Dockerfile").read_text()

_FIGURE_AND_REPORT = """
import sys
from dynrcnn_ray.__main__ import main
for command in ("figure4", "report"):
    assert main([command, *sys.argv[1:]]) == 0
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `cluster/Dockerfile` copies into the image, and the benchmarks."""
    folder = tmp_path_factory.mktemp("image")
    left_out = shutil.ignore_patterns("__pycache__", "reference_*")
    for line in DOCKERFILE.replace("\\\n", " ").splitlines():
        match line.split():
            case ["COPY", "--chown=ray", *names, target]:
                for name in names:
                    if (REPOSITORY / name).is_dir():
                        shutil.copytree(REPOSITORY / name, folder / target, ignore=left_out)
                    else:
                        shutil.copy(REPOSITORY / name, folder / target)
    shutil.copytree(REPOSITORY / "benchmarks", folder / "benchmarks", ignore=left_out)
    return folder


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content and nothing else."""
    site = tmp_path_factory.mktemp("site")
    assert "RUN pip install --no-cache-dir --constraint constraints.txt .\n" in DOCKERFILE
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # What it needs is that of this machine.
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    subprocess.run([*pip, *offline, "--constraint", "constraints.txt", "."], cwd=source, check=True)
    return site


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
def test_the_image_has_what_the_kubernetes_job_runs(installed: Path, source: Path, tmp_path: Path) -> None:
    """Everything but the container: the files, the installation without an index, and the command of the RayJob."""
    entrypoint = yaml.safe_load((REPOSITORY / "cluster/kuberay.yaml").read_text())["spec"]["entrypoint"].split()
    assert entrypoint[:3] == ["python", "experiments/main.py", "table3"]
    told = run(installed, source, *entrypoint[1:3], "--scale", "smoke", "--dry-run", "--storage", str(tmp_path))
    assert "table3, scale smoke: 4 rows" in told


@pytest.mark.slow
def test_the_wheel_draws_a_figure_of_the_paper_and_the_report(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "-c", _FIGURE_AND_REPORT, "--scale", "smoke", "--storage", str(tmp_path / "store"))
    assert (tmp_path / "store" / "figures" / "figure4.png").stat().st_size > 5000
    assert "Figure 4" in (tmp_path / "store" / "report.html").read_text()
