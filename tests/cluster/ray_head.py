"""A Ray head of a test's own: its own ports, home, token and temporary folder, and the end of it alone."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
_AGENT_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        jobs: the address of its job server.
        address: that of the cluster.
        environment: that of its users.
        temporary: the `TMPDIR` of its machine, in which its files are as if it had been started there.
    """

    jobs: str
    address: str
    environment: dict[str, str]
    temporary: str


_STARTS_ON_A_BUSY_MACHINE = 3


@contextlib.contextmanager
def ray_head(
    home: Path, *options: str, port: int | None = None, has_jobs: bool = True, **environment: str
) -> Iterator[Head]:
    """Start a head with token authentication and end it, as a user's `ray start --head` with `HOME` elsewhere.

    Args:
        home: its home folder.
        options: further ones of `ray start`.
        port: its port; None: a free one.
        has_jobs: whether it has an autoscaler, a dashboard and a job server, whose processes take seconds to start.
        environment: further variables.
    """
    folder = tempfile.mkdtemp(prefix="ray_", dir="/tmp")  # Ray's socket paths must be short.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # The first of PATH is what activating the virtual environment puts there: a job's `python` is looked for in it.
    env = outer | {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(home)}
    # No trial takes a process that Ray starts in advance.
    env |= {"RAY_AUTH_MODE": "token", "RAY_prestart_worker_first_driver": "0", **environment}
    # What `ray get-auth-token --generate` does in three seconds.
    (home / ".ray").mkdir(exist_ok=True)
    (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    port, dashboard = port or free_port(), free_port()
    command = [RAY, "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={folder}/ray", f"--port={port}"]
    command += [
        "--node-ip-address=127.0.0.1",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--dashboard-port={dashboard}",
        f"--include-dashboard={has_jobs}",
        *([] if has_jobs else ["--no-monitor", "--include-log-monitor=False"]),
        *options,
    ]
    command += [f"--{name}={free_port()}" for name in (*_AGENT_PORTS, "ray-client-server-port")]
    log = Path(folder) / "start.log"
    head = _start(command, env, log)
    for _ in range(_STARTS_ON_A_BUSY_MACHINE):
        if _runs(head, log):
            break
        _kill_all_with(folder)
        head = _start(command, env, log)
    try:
        _wait_until_it_runs(head, log)
        if has_jobs:
            _wait_until_it_listens(dashboard, head, log)
        yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", env, folder)
    finally:
        head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(5)
        _kill_all_with(folder)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ray_node(
    head: Head, folder: Path, *, private: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen]:
    """Start a node of one core beside a head, and end it; its processes are descendants of what is yielded.

    Args:
        head: the cluster's head.
        folder: of its log.
        private: a folder that is an empty disk of the node's own, as on another machine; this takes root.
        environment: further variables.
    """
    mount = 'mount -t tmpfs none "$0" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, str(private)] if private else []
    command += [RAY, "start", f"--address={head.address}", "--block", "--disable-usage-stats", "--num-cpus=1"]
    command += ["--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"]
    command += ["--object-store-memory=100000000", "--include-log-monitor=False"]
    command += [f"--{name}={free_port()}" for name in _AGENT_PORTS]
    log = folder / f"node_{uuid.uuid4().hex}.log"
    node = _start(command, head.environment | environment, log)
    try:
        _wait_until_it_runs(node, log)
        yield node
    finally:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(5)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def processes_with(text: str) -> list[int]:
    """Processes whose command line holds a text that only the caller's own have."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if int(process.name) != os.getpid() and text.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen:
    with log.open("w") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def _runs(started: subprocess.Popen, log: Path) -> bool:
    """Whether it runs in the end. Ray itself gives a head 30 seconds, which a busy machine may not have for it."""
    while started.poll() is None:
        if "Ray runtime started" in log.read_text():
            return True
        time.sleep(0.5)
    return "timed out during startup" not in log.read_text()


def _kill_all_with(text: str) -> None:
    for pid in processes_with(text):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_until_it_runs(started: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert started.poll() is None, log.read_text()
        if "Ray runtime started" in log.read_text():
            return
        time.sleep(0.5)
    raise AssertionError(log.read_text())


def _wait_until_it_listens(port: int, head: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert head.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.5)
    raise AssertionError(log.read_text())
