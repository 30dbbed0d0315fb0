"""Where Ray's own files go, by what `TMPDIR` and `RAY_TMPDIR` say."""

import os
import tempfile
from pathlib import Path

import pytest

from dynrcnn_ray.execution import temporary
from dynrcnn_ray.execution.temporary import use_a_folder_that_ray_can_use


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "complaint"),
    [
        ("/tmp/" + 35 * "x", "is too long for Ray's sockets (more than 39 bytes)"),
        ("/tmp/é", "is not ASCII, and Ray's sockets must be"),
        ("tmp", "is no absolute path"),
        ("/proc/nowhere", "cannot be made"),
    ],
)
def test_a_folder_that_ray_cannot_use_is_told_and_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, folder: str, complaint: str
):
    monkeypatch.setenv(variable, folder)
    use_a_folder_that_ray_can_use()
    assert capsys.readouterr().out == f"Temporary files go to /tmp: {folder} {complaint}.\n"
    assert os.environ["TMPDIR"] == os.environ["RAY_TMPDIR"] == tempfile.gettempdir() == "/tmp"


def test_any_other_folder_stays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for chosen in (folder, f"{folder}/new"):
            monkeypatch.setenv("TMPDIR", chosen)
            use_a_folder_that_ray_can_use()
            assert Path(chosen).is_dir()
            assert os.environ["TMPDIR"] == chosen
    assert capsys.readouterr().out == ""
    assert "RAY_TMPDIR" not in os.environ


def test_a_folder_of_ray_that_is_not_ones_own_is_told_and_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        (Path(folder) / "ray").write_text("of another user")
        monkeypatch.setenv("TMPDIR", folder)
        use_a_folder_that_ray_can_use()
        told = f"Temporary files go to /tmp: {folder} holds {folder}/ray, where nothing can be written.\n"
        assert capsys.readouterr().out == told
        # Nor is the usual folder of any use.
        monkeypatch.setattr(temporary, "_SHORT", folder)
        monkeypatch.setenv("RAY_TMPDIR", "/tmp/é")
        use_a_folder_that_ray_can_use()
        own = f"{folder}/dynrcnn_ray_{os.geteuid()}"
        assert os.environ["TMPDIR"] == os.environ["RAY_TMPDIR"] == tempfile.gettempdir() == own
        assert Path(own).is_dir()
