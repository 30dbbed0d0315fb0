import subprocess
import sys

FAULTS_OF_A_LARGE_BLOCK = """
import resource
from dynrcnn_ray.engine.allocator import keep_freed_memory
if {kept}:
    keep_freed_memory()
def touch():
    return len(b"x" * 2**26)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*, kept: bool) -> int:
    """Page faults of allocating 64 MiB again, just after they were freed. In a process of its own: it is for good."""
    code = FAULTS_OF_A_LARGE_BLOCK.format(kept=kept)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_handed_out_again_without_page_faults():
    assert page_faults(kept=True) < 100 < page_faults(kept=False)
