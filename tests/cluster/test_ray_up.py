"""`ray up`, a job and `ray down` as cluster/README.md tells it, with `cluster/gpu.yaml`, in a cloud on this machine."""

import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynrcnn_ray.config.trial_config import TrialConfig
from tests.cluster import gpu_file, small_cloud
from tests.cluster.small_cloud import Cloud

pytestmark = [pytest.mark.ray, pytest.mark.slow]

INSTALL = f"{sys.executable} {Path(__file__).parent / 'install_here.py'} ~/venv"

# The file's commands that cannot run here, known by a part, each with what stands for it; all others run as they are.
# The cloud has no way to PyPI: the environment gets the packages that this test runs on, those that the project needs.
INSTEAD = {
    "python3 -m pip install --user --quiet uv==": "true",
    "test -e ~/venv || ": f"test -e ~/venv || {sys.base_prefix}/bin/python3 -m venv --without-pip ~/venv",
    "--constraint constraints.txt .": f"cd ~/dynrcnn_ray && {INSTALL} .",
    "--constraint constraints.txt boto3": f"cd ~/dynrcnn_ray && {INSTALL} boto3",
}

JOB = (
    "ray job submit --address http://127.0.0.1:8265 --working-dir . -- python experiments/main.py train --scale smoke"
    " --train.steps 4 --data.root /data/coco --data.train-split train2017 --data.val-split val2017"
    " --storage s3://$BUCKET/dynrcnn"
)
FINISHED = 'import pandas; print(*pandas.read_parquet("s3://bucket/dynrcnn/trials").status)'


def for_this_machine(content: dict[str, Any]) -> dict[str, Any]:
    """The file's content with what `INSTEAD` says; each of its parts must be in one command."""
    found = []
    for commands in (content["setup_commands"], content["head_setup_commands"]):
        for number, command in enumerate(commands):
            for part in INSTEAD:
                if part in command:
                    found.append(part)
                    commands[number] = INSTEAD[part]
    assert found == list(INSTEAD)
    return content


@pytest.fixture(scope="module")
def coco(smoke: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket's content: generated images and annotations, in archives as those of COCO."""
    bucket = tmp_path_factory.mktemp("bucket")
    (bucket / "coco").mkdir()
    root = Path(smoke.data.root)
    with zipfile.ZipFile(bucket / "coco" / "annotations_trainval2017.zip", "w") as archive:
        for split in ("train", "val"):
            archive.write(root / "annotations" / f"instances_{split}.json", f"annotations/instances_{split}2017.json")
    for split in ("train", "val"):
        with zipfile.ZipFile(bucket / "coco" / f"{split}2017.zip", "w") as archive:
            for image in (root / split).iterdir():
                archive.write(image, f"{split}2017/{image.name}")
    return bucket


@pytest.fixture(scope="module")
def cloud(coco: Path) -> Iterator[Cloud]:
    if lacks := small_cloud.missing():
        pytest.skip(f"a cloud on this machine needs {', '.join(lacks)}")
    with small_cloud.small_cloud(coco) as started:
        yield started


def test_a_cluster_goes_up_starts_a_node_for_a_job_and_goes_down(cloud: Cloud):
    (cloud.home / "gpu.yaml").write_text(yaml.safe_dump(for_this_machine(gpu_file.filled(**cloud.made))))
    cloud.run("ray get-auth-token --generate")
    out = cloud.run("ray up -y ~/gpu.yaml", timeout=300)
    assert "Did not find any active Ray processes" in out  # The file's `ray stop`, whatever runs outside of the cloud.
    assert [machine["node_type"] for machine in cloud.machines()] == ["head"]
    # The project as it was copied there, with all of its packages.
    where = cloud.run("""ray exec ~/gpu.yaml 'python -c "from dynrcnn_ray import store; print(store.__file__)"'""")
    assert f"{small_cloud.HOME}/dynrcnn_ray/dynrcnn_ray/store/__init__.py" in where

    cloud.run("ray dashboard ~/gpu.yaml > /dev/null 2>&1 &")
    cloud.run("until curl --silent 127.0.0.1:8265 > /dev/null; do sleep 0.5; done")
    status = "curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10"
    assert cloud.run(f"{status} 127.0.0.1:8265/api/jobs/") == "401"
    address = cloud.machines()[0]["address"]
    assert cloud.run(f"{status} {address}:8265/api/jobs/ || true") == "000"

    out = cloud.run(JOB, timeout=500)
    assert "train: 1 trials to run, 0 already in s3://bucket/dynrcnn." in out
    assert re.search(r"^\[1/1\] trial, seed 0 +step +4/4  loss ", out, re.MULTILINE)
    assert "succeeded" in out
    assert cloud.run(f"python -c '{FINISHED}'") == "finished\n"
    # The head has no core for a trial: the autoscaler on it started a node.
    head, node = cloud.machines()
    assert node["node_type"] in ("gpu_on_demand", "gpu_spot")
    assert head["runs"]
    assert node["runs"]

    cloud.run("ray down -y ~/gpu.yaml")
    assert [(machine["state"], machine["runs"]) for machine in cloud.machines()] == [("terminated", False)] * 2
