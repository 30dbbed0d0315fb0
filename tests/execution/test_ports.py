"""Who can reach a command's own Ray: this machine alone."""

import subprocess
import sys

import pytest

LISTENING = """
import ray
import psutil  # Ray brings it along.
from dynrcnn_ray.execution.cluster import ray_cluster

with ray_cluster():
    ray.get(ray.remote(lambda: None).remote())
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                print(connection.laddr.ip)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_command_s_own_ray_listens_on_the_loopback_alone():
    done = subprocess.run([sys.executable, "-c", LISTENING], capture_output=True, text=True, check=True)
    addresses = done.stdout.split()
    assert len(addresses) > 3
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
