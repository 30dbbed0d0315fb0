"""Which kind of file system holds a storage: one machine's own, or one that others may see."""

from pathlib import Path

import pytest

from dynrcnn_ray.execution import nodes

MOUNTS = """overlay / overlay rw 0 0
/dev/nvme0n1 /data ext4 rw 0 0
10.0.0.9:/ /data/shared nfs4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"), [("data/new/store", "ext4"), ("data/shared/new", "nfs4"), ("home/new", "overlay")]
)
def test_the_innermost_mount_counts(tmp_path: Path, folder: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    """Below a folder that stands for the root; the store itself is not there yet."""
    (tmp_path / "mounts").write_text(
        MOUNTS.replace(" /data", f" {tmp_path}/data").replace("overlay / ", f"overlay {tmp_path} ")
    )
    (tmp_path / "data" / "shared").mkdir(parents=True)
    monkeypatch.setattr(nodes, "MOUNTS", tmp_path / "mounts")
    assert nodes.kind_of_file_system(tmp_path / folder) == kind
