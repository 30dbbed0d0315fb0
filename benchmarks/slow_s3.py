"""A folder as the bucket of an S3 server that takes its time, as one over a network does: moto's, on this machine.

Command:  python -m benchmarks.slow_s3 FOLDER SECONDS
          prints the port, and serves the bucket `bucket` until it is ended; every answer comes after so many seconds
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server


def serve(folder: Path, seconds: float) -> None:
    """Serve the folder's files, read once at the start, on a free port of this machine, for ever."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket("bucket", "us-east-1")
    for file in folder.rglob("*.parquet"):
        backend.put_object("bucket", str(file.relative_to(folder)), file.read_bytes())
    answer = DomainDispatcherApplication(create_backend_app)

    def answer_late(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(seconds)
        return answer(environment, start_response)

    server = make_server("127.0.0.1", 0, answer_late, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), float(sys.argv[2]))
