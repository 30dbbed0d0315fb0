"""An S3 server of a test's own: moto's, in this process."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import boto3
import pytest
from moto.s3.models import S3Backend
from moto.server import ThreadedMotoServer


@dataclass(frozen=True)
class Server:
    """An S3 server with one empty bucket."""

    endpoint: str
    client: Any

    def uri(self, prefix: str) -> str:
        return f"s3://bucket/{prefix}?endpoint_override={self.endpoint}&region=us-east-1"

    def keys(self, prefix: str) -> set[str]:
        """Objects below a prefix, without the empty ones that stand for folders."""
        found = self.client.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])
        return {each["Key"] for each in found if not each["Key"].endswith("/")}


@contextlib.contextmanager
def s3_server() -> Iterator[Server]:
    """A server on a free port, and keys of no account."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        moto_server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        moto_server.start()
        _, port = moto_server.get_host_and_port()
        endpoint = f"http://127.0.0.1:{port}"
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield Server(endpoint, client)
        moto_server.stop()


def instead_of(method: str, act: Callable[..., Any]) -> Any:
    """Patch the server: `act` is called with the real method and its arguments."""
    real = getattr(S3Backend, method)
    return mock.patch.object(S3Backend, method, lambda *arguments, **named: act(real, *arguments, **named))
