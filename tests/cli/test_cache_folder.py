"""Where cached files go: to the user's cache, or to a temporary folder that is this user's alone."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from dynrcnn_ray.cli.cache_folder import use_a_cache_that_can_be_written

OTHER_USER = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
    monkeypatch.setenv("MPLCONFIGDIR", "as it is")
    return folder


def used() -> Path:
    use_a_cache_that_can_be_written()
    return Path(os.environ["XDG_CACHE_HOME"])


def test_a_home_that_can_be_written_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert used() == tmp_path / "cache"
    assert capsys.readouterr().err == ""


def test_the_temporary_folder_is_the_same_each_time_and_closed_to_others(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = temporary / f"dynrcnn_ray_{os.geteuid()}"
    for _ in range(2):
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
        assert used() == own
        assert capsys.readouterr().err == f"Cached files go to {own}: /proc/cache cannot be written.\n"
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        own.chmod(0o777)


@pytest.mark.parametrize("taken", ["a file", "a link", pytest.param("another user", marks=needs_root)])
def test_a_name_that_is_taken_is_left_alone(temporary: Path, taken: str) -> None:
    own = temporary / f"dynrcnn_ray_{os.geteuid()}"
    if taken == "a file":
        own.write_text("theirs")
    elif taken == "a link":
        own.symlink_to("/proc")
    else:
        own.mkdir()
        os.chown(own, OTHER_USER, OTHER_USER)
    before = own.lstat()
    assert used() == temporary / f"{own.name}_2"
    assert (own.lstat().st_uid, own.lstat().st_mode, own.lstat().st_ino) == (
        before.st_uid,
        before.st_mode,
        before.st_ino,
    )


@needs_root
def test_a_shared_cache_that_another_user_has_made_is_not_used(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    (shared / "dynrcnn_ray").mkdir(parents=True)
    shared.chmod(0o1777)
    os.chown(shared / "dynrcnn_ray", OTHER_USER, OTHER_USER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    own = temporary / f"dynrcnn_ray_{os.geteuid()}"
    assert used() == own
    assert capsys.readouterr().err == f"Cached files go to {own}: {shared} holds files of another user.\n"


def test_without_any_folder_a_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    assert used() == Path("/proc/cache")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("/proc/cache cannot be written, and no temporary folder can be written; set XDG_CACHE_HOME.")
