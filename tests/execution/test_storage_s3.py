"""What becomes of files on S3, with moto's server in this process; `test_cluster` runs a grid whose store is there."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from moto.s3.exceptions import S3AccessDeniedError

from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from tests.execution.commands import REPOSITORY
from tests.execution.s3_server import Server, instead_of, s3_server

PART = 10 * 1024 * 1024
"""Bytes of one part of an upload, as pyarrow cuts it."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as started:
        yield started


def test_an_upload_that_breaks_off_leaves_what_was_there(server: Server):
    """The second of three parts is refused, as when rights are withdrawn or an upload is aborted elsewhere."""

    def refuse_second(real, backend, bucket, upload, part, body):
        if part == 2:
            raise S3AccessDeniedError
        return real(backend, bucket, upload, part, body)

    store = ResultStore.open(server.uri("broken"))
    store.files.write_bytes("a", b"before")
    with instead_of("upload_part", refuse_second):
        for name in ("a", "b"):
            with pytest.raises(StoreError, match=rf"s3://bucket/broken/{name} cannot be written: .*UploadPart"):
                store.files.write_bytes(name, bytes(3 * PART))
    assert store.files.read_bytes("a") == b"before"
    assert store.files.read_bytes("b") is None


WRITE = """
import sys
from dynrcnn_ray.store.results_store import ResultStore
store = ResultStore.open(sys.argv[1])
store.files.write_bytes("plans/a.parquet", bytes(int(sys.argv[2])))
"""


def test_a_writer_that_is_killed_leaves_what_was_there(server: Server):
    store = ResultStore.open(server.uri("killed"))
    store.files.write_bytes("plans/a.parquet", b"before")
    writers: list[subprocess.Popen] = []

    def kill_at_last(real, backend, bucket, upload, part, body):
        if part == 3:
            writers[0].kill()
            writers[0].wait()
        return real(backend, bucket, upload, part, body)

    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with instead_of("upload_part", kill_at_last):
        command = [sys.executable, "-c", WRITE, server.uri("killed"), str(3 * PART)]
        writers.append(subprocess.Popen(command, env=environment))
        assert writers[0].wait(60) == -signal.SIGKILL
    assert store.files.read_bytes("plans/a.parquet") == b"before"
    assert server.keys("killed/") == {"killed/plans/a.parquet"}


def test_a_large_object_is_read_in_few_requests(server: Server):
    """A checkpoint has some hundred megabytes; each request costs tens of milliseconds."""
    store = ResultStore.open(server.uri("large"))
    content = os.urandom(PART)
    store.files.write_bytes("a", content)
    requests: list[str] = []

    def count(real, backend, bucket, key, *others, **named):
        requests.append(key)
        return real(backend, bucket, key, *others, **named)

    with instead_of("get_object", count):
        assert store.files.read_bytes("a") == content
    assert len(requests) < 10


def test_the_endpoint_may_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch):
    ResultStore.open(server.uri("environment")).files.write_bytes("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    assert ResultStore.open("s3://bucket/environment").files.read_bytes("a") == b"1"


def test_a_bucket_that_is_not_there_is_told_in_one_line(server: Server):
    store = ResultStore.open(server.uri("x").replace("//bucket", "//nowhere"))
    with pytest.raises(StoreError, match=r"s3://nowhere/x/a cannot be written: .*bucket does not exist") as refused:
        store.files.write_bytes("a", b"1")
    assert "\n" not in str(refused.value)
