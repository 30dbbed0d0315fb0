"""Freed memory is handed out again: measured in a thread, as trials train in one, in the environment that they get."""

import os
import subprocess
import sys

from dynrcnn_ray.execution.cluster import _WORKER_ENVIRONMENT

FAULTS_OF_LARGE_BLOCKS = """
import resource, threading
from dynrcnn_ray.training.allocator import keep_freed_memory

def touch():
    blocks = [b"x" * 2**24 for _ in range(3)]

def train():
    if {kept}:
        keep_freed_memory()
    touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touch()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=train)
thread.start()
thread.join()
"""


def page_faults(*, kept: bool) -> int:
    """Page faults of allocating 48 MiB again, just after they were freed. In a process of its own: it is for good."""
    code = FAULTS_OF_LARGE_BLOCKS.format(kept=kept)
    environment = os.environ | _WORKER_ENVIRONMENT
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_handed_out_again_without_page_faults():
    assert page_faults(kept=True) < 100 < page_faults(kept=False)
