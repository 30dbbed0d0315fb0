"""`RAY_ADDRESS` where no Ray cluster answers: one line within ten seconds."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private import services

from experiments.main import main
from tests.cluster.ray_head import free_port


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """One that takes connections and never says a word, as a head does whose process hangs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What a training says with an address, after its time and exit code have been looked at."""

    def complaint_about(address: str) -> str:
        monkeypatch.setenv("RAY_ADDRESS", address)
        started = time.monotonic()
        assert main(["train", "--scale", "smoke", "--storage", str(tmp_path)]) == 2
        assert time.monotonic() - started < 10
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: RAY_ADDRESS={address}: ")
        assert line.endswith("; start it, correct RAY_ADDRESS, or unset it to use this machine alone")
        return line

    return complaint_about


def test_a_dead_cluster(complaint):
    for address in (f"127.0.0.1:{free_port()}", f"ray://127.0.0.1:{free_port()}"):
        assert "no Ray cluster answers there (" in complaint(address)


@pytest.mark.slow
def test_what_does_not_answer_as_ray_does(complaint):
    with deaf_port() as port:
        assert "does not answer as Ray does within 3 seconds" in complaint(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["127.0.0.1", "http://127.0.0.1:8265", "head:port", ":6379", "127.0.0.1:99999999"])
def test_what_is_no_address(complaint, address: str):
    complaint(address)


def test_auto_where_no_cluster_runs(complaint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Those of others on this machine do not count here."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(services, "find_gcs_addresses", frozenset)
    assert "no Ray cluster runs on this machine" in complaint("auto")
    # What a head that has died since has left there.
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")
    assert "no Ray cluster answers there (" in complaint("auto")
