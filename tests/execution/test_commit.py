"""Which commit the rows carry: a checkout's own, else the one that is handed over."""

import subprocess
from pathlib import Path

import pytest

from dynrcnn_ray.execution.commit import git_commit, say_if_unknown


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        (tmp_path / "file").write_text("1")
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *command], check=True)
    return tmp_path


def test_a_checkout_names_its_commit_and_marks_changes(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DYNRCNN_COMMIT", "another")
    clean = git_commit(checkout)
    assert len(clean) == 12
    (checkout / "file").write_text("2")
    assert git_commit(checkout) == f"{clean}-dirty"


def test_a_copy_without_git_takes_what_is_handed_over(checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Also within another project's repository, whose commit is not the code's."""
    copy = checkout / "working_dir"
    copy.mkdir()
    monkeypatch.delenv("DYNRCNN_COMMIT", raising=False)
    assert git_commit(copy) == "unknown"
    say_if_unknown(git_commit(copy))
    assert "set DYNRCNN_COMMIT" in capsys.readouterr().out
    monkeypatch.setenv("DYNRCNN_COMMIT", "0123456789ab")
    assert git_commit(copy) == "0123456789ab"
    say_if_unknown(git_commit(copy))
    assert not capsys.readouterr().out
