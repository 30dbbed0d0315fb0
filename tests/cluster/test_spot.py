"""What spot nodes need of `cluster/`: AWS's notice reaches Ray, and broken uploads leave the bucket."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import moto
import pytest

from tests.cluster import gpu_file


class Metadata(BaseHTTPRequestHandler):
    """AWS's metadata server of a node, with a token for each request; the second time it is asked there is a notice."""

    asked = 0

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token"
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "60"
        self.answer(200, b"secret")

    def do_GET(self) -> None:
        assert self.path == "/latest/meta-data/spot/instance-action"
        assert self.headers["X-aws-ec2-metadata-token"] == "secret"
        type(self).asked += 1
        self.answer(200 if self.asked == 2 else 404, b'{"action": "terminate"}')

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_notice_of_aws_reaches_ray_once(metadata: str, tmp_path: Path):
    content = gpu_file.filled(REGION="us-west-2", SECURITY_GROUP="sg-1", BUCKET="bucket", AMI="ami-1")
    (command,) = [line for line in content["worker_start_ray_commands"] if "instance-action" in line]
    # In place of Ray and of the seconds between two questions.
    for name, script in (("ray", f'echo "$@" >> {tmp_path}/told'), ("sleep", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    here = command.replace("169.254.169.254", metadata).replace("/tmp/spot_notice.log", f"{tmp_path}/log")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_HEAD_IP": "10.0.0.5"}
    subprocess.run(["sh", "-c", f"{here} wait"], env=environment, timeout=60, check=True)
    assert (tmp_path / "told").read_text().splitlines() == [
        "drain-node --address 10.0.0.5:6379 --reason DRAIN_NODE_REASON_PREEMPTION --reason-message spot "
        "--deadline-remaining-seconds 110"
    ]


def test_the_readmes_rule_removes_interrupted_uploads(monkeypatch: pytest.MonkeyPatch):
    text = (gpu_file.FILE.parent / "README.md").read_text()
    (rule,) = re.findall(r"put-bucket-lifecycle-configuration [^']*'([^']+)'", text)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="bucket")
        s3.put_bucket_lifecycle_configuration(Bucket="bucket", LifecycleConfiguration=json.loads(rule))
        (kept,) = s3.get_bucket_lifecycle_configuration(Bucket="bucket")["Rules"]
    assert kept["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert kept["Status"] == "Enabled"
    assert "Expiration" not in kept, "what is whole stays"
