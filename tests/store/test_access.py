"""Damage and access are two things: a file that cannot be read just now stays, and nobody is told to move it."""

import contextlib
import http.server
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.remedies import remedy_of
from dynrcnn_ray.store.results_store import ResultStore
from tests.stored_table import dynamics_rows, plan_row, trial_row

_NOBODY = 65534


@contextlib.contextmanager
def without_rights(root: Path) -> Iterator[None]:
    """The store as a user sees it who must not read it."""
    if os.geteuid():
        mode = root.stat().st_mode
        root.chmod(0)
        try:
            yield
        finally:
            root.chmod(mode)
    else:
        root.chmod(0o700)
        os.seteuid(_NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)


@contextlib.contextmanager
def without_open_files(_root: Path) -> Iterator[None]:
    """As a process has it that has opened as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Bucket(http.server.BaseHTTPRequestHandler):
    """Answers every request as an object store does that refuses it."""

    status = 403

    def do_GET(self) -> None:
        code = {403: "AccessDenied", 400: "ExpiredToken"}[self.status]
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def bucket() -> Iterator[tuple[ResultStore, type[_Bucket]]]:
    handler = type("Bucket", (_Bucket,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
        yield ResultStore.open(f"s3://key:secret@bucket/folder?{place}"), handler
        server.shutdown()
        thread.join()


READERS: dict[str, Callable[[ResultStore], object]] = {
    "trials": lambda store: store.trials(),
    "running": lambda store: store.trials_so_far(),
    "dynamics": lambda store: store.dynamics(["a"]),
    "plans": lambda store: store.plan("table3"),
    "names": lambda store: store.experiments(),
    "figure": lambda store: store.files.read_bytes("figures/figure5.png"),
    "checkpoint": lambda store: store.files.read_bytes("checkpoints/a/step_00000020.pt"),
}


def assert_it_may_be_whole(error: StoreError) -> None:
    text = str(error)
    assert "cannot be read" in text
    assert "the file itself may be whole" in text
    assert "repeat the command" in text
    assert "\n" not in text
    for word in ("delete", "remove", "move", "damaged"):
        assert word not in text


@pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))
@pytest.mark.parametrize(
    ("away", "remedy"),
    [(without_rights, "give your user the right to read it"), (without_open_files, "ulimit -n")],
)
def test_a_file_that_is_not_given_may_be_whole(
    store: ResultStore,
    tmp_path: Path,
    read: Callable[[ResultStore], object],
    away: Callable[[Path], AbstractContextManager[None]],
    remedy: str,
):
    store.write_trial(trial_row("a"))
    store.write_running(trial_row("b", status="running"))
    store.write_dynamics("a", dynamics_rows(0, seed=0))
    store.write_plan("table3", [plan_row(0)])
    store.files.write_bytes("figures/figure5.png", b"x")
    store.files.write_bytes("checkpoints/a/step_00000020.pt", b"x")
    read(store)
    with away(tmp_path / "storage"), pytest.raises(StoreError) as caught:
        read(store)
    assert_it_may_be_whole(caught.value)
    assert remedy in str(caught.value)
    read(store)


@pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))
@pytest.mark.parametrize("status", [400, 403])
def test_an_object_that_is_refused_may_be_whole(
    bucket: tuple[ResultStore, type[_Bucket]], read: Callable[[ResultStore], object], status: int
):
    store, handler = bucket
    handler.status = status
    with pytest.raises(StoreError) as caught:
        read(store)
    assert_it_may_be_whole(caught.value)
    assert str(caught.value).startswith("s3://bucket/folder/")


@pytest.mark.parametrize(
    "folder",
    [
        *("trials", "running", "dynamics", "proposals", "statistics", "detections"),
        *("images", "classes", "errors", "plans", "tables", "checkpoints"),
    ],
)
def test_nothing_that_may_be_whole_is_to_be_deleted(folder: str):
    """A damaged file's remedy names others that are good, such as a trial's row."""
    assert remedy_of(f"{folder}/a.parquet").startswith("move it ")
    assert "delete" not in remedy_of(f"{folder}/a.parquet")
