"""`cluster/gpu.yaml` and `cluster/kuberay.yaml` in the hands of Ray's and Kubernetes' own checks."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.experiment.costs import wall_seconds
from tests.cluster import gpu_file

CLUSTER = gpu_file.FILE.parent
ROOT = CLUSTER.parent
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)


@pytest.fixture(scope="module")
def gpu() -> dict[str, Any]:
    """The file as `ray up` prepares it."""
    content = gpu_file.filled(REGION="us-west-2", SECURITY_GROUP="sg-1", BUCKET="bucket", AMI="ami-1")
    prepared = prepare_config(content)
    validate_config(prepared)
    return prepared


@pytest.fixture(scope="module")
def rayjob() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "kuberay.yaml").read_text())


def test_rays_check_refuses_a_wrong_file():
    content = gpu_file.filled(REGION="us-west-2", SECURITY_GROUP="sg-1", BUCKET="bucket", AMI="ami-1")
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(content | {"max_worker": 3}))


def test_workers_start_at_none_and_no_worker_lands_on_the_head(gpu):
    types = gpu["available_node_types"]
    assert gpu["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in gpu["head_start_ray_commands"][-1]
    workers = {name: types[name] for name in ("gpu_on_demand", "gpu_spot")}
    assert types.keys() == {"head", *workers}
    assert all(group["min_workers"] == 0 < group["max_workers"] for group in workers.values())
    assert gpu["max_workers"] == sum(group["max_workers"] for group in workers.values())
    assert types["gpu_spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["gpu_on_demand"]["node_config"]


def test_a_trial_at_scale_coco_fills_the_gpus_of_a_node(gpu, rayjob):
    run = base_config("coco").run
    resources = [group["resources"] for name, group in gpu["available_node_types"].items() if name != "head"]
    resources += [group["resources"] for name, group in kuberay_groups(rayjob).items() if name != "headgroup"]
    assert len(resources) == 3
    for node in resources:
        assert node["GPU"] == run.num_workers
        assert node["CPU"] >= run.num_workers * run.cpus_per_worker


def test_no_port_is_open_to_the_world(gpu):
    assert "security_group" not in gpu["provider"]
    for group in gpu["available_node_types"].values():
        # Without this, Ray makes a group of its own with ssh from everywhere.
        assert group["node_config"]["SecurityGroupIds"] == ["sg-1"]
    texts = [(CLUSTER / name).read_text() for name in ("gpu.yaml", "kuberay.yaml", "README.md")]
    assert all("0.0.0.0" not in text and "::/0" not in text for text in texts)
    assert "--dashboard-host=127.0.0.1" in gpu["head_start_ray_commands"][-1]


def test_every_node_of_ray_up_asks_for_the_token(gpu):
    for commands in (gpu["head_setup_commands"], gpu["worker_setup_commands"]):
        assert any("export RAY_AUTH_MODE=token" in command and "~/.bashrc" in command for command in commands)
    assert any(there.endswith("/.ray/auth_token") for there in gpu["file_mounts"])


def test_only_what_is_needed_is_copied_to_the_nodes(gpu):
    """`ray up` reads all of it, and its exclusions without a leading slash hold in every folder: `results`, say."""
    assert "." not in gpu["file_mounts"].values()
    assert gpu["rsync_exclude"] == ["__pycache__"]
    for here in gpu["file_mounts"].values():
        assert here.startswith("~") or (ROOT / here).exists()


@pytest.mark.parametrize("name", ["gpu.yaml", "kuberay.yaml", "README.md"])
def test_no_secret_is_written_down(name: str):
    text = (CLUSTER / name).read_text()
    assert not re.search(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b", text)
    assert "PRIVATE KEY" not in text
    assert not re.search(r"(?i)(secret_access_key|auth_token|password)\s*[:=]\s*[\"']?[A-Za-z0-9+/]{8,}", text)
    assert not re.search(r"\b[0-9a-fA-F]{32,}\b", text)


def test_versions_are_those_of_the_constraints(gpu, rayjob):
    def installed(commands: list[str]) -> list[str]:
        return [command.split("--python ~/venv ")[1] for command in commands if "uv pip install" in command]

    project = "--constraint constraints.txt ."
    assert installed(gpu["worker_setup_commands"]) == [project]
    # The autoscaler on the head starts nodes by boto3; it takes that of Ray's environment.
    assert installed(gpu["head_setup_commands"]) == [project, "--constraint constraints.txt boto3"]
    assert "boto3" in PINNED
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == PINNED["ray"]


def kuberay_groups(rayjob: dict[str, Any]) -> dict[str, Any]:
    """The node types as the Ray autoscaler's own reader takes them from a RayCluster."""
    metadata = {"name": "cluster", "namespace": "default"}
    return _derive_autoscaling_config_from_ray_cr({"metadata": metadata, "spec": rayjob["spec"]["rayClusterSpec"]})[
        "available_node_types"
    ]


def test_ray_reads_the_kubernetes_groups_as_meant(rayjob):
    groups = kuberay_groups(rayjob)
    assert groups["headgroup"]["resources"]["CPU"] == 0
    assert (groups["gpu"]["min_workers"], groups["gpu"]["max_workers"]) == (2, 2)


def test_the_rayjob_follows_kuberays_schema(rayjob):
    schema = yaml.safe_load((Path(__file__).parent / "kuberay_rayjob.schema.yaml").read_text())
    jsonschema.validate(rayjob, schema)
    rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        jsonschema.validate(rayjob, schema)
    del rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replica"]


def test_the_pods_follow_the_schema_of_kubernetes(rayjob):
    cluster = rayjob["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.34", strict=True)
        pod["spec"]["containers"][0]["ressources"] = {}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, "1.34", strict=True)
        del pod["spec"]["containers"][0]["ressources"]


def test_the_readmes_hours_are_those_of_the_plan():
    """Eight GPUs, at the throughput that `dynrcnn_ray/experiment/costs.py` assumes."""
    dollars = 16.29
    section = (CLUSTER / "README.md").read_text().split("## Hours and costs")[1]
    told = re.findall(r"^\| (\w+) \| (\d+)[^|]* \| (\d+) \| (\d+) \|$", section, re.MULTILINE)
    planned, every = [], {}
    for number in (1, 2, 3, 4, 5, 6, 8, 9):
        rows = import_module(f"dynrcnn_ray.paper.table{number}").rows(base_config("coco"))
        found = [Trial(row.config) for row in rows if row.config]
        trials = {trial.trial_id: trial for trial in found}
        every |= trials
        planned.append((str(number), trials))
    for (name, trials), (table, trainings, hours, cost) in zip([*planned, ("all", every)], told, strict=True):
        assert (name, len({trial.training_id for trial in trials.values()})) == (table, int(trainings))
        wanted = wall_seconds(trials.values(), "coco") / 3600
        assert int(hours) == round(wanted)
        assert int(cost) == pytest.approx(wanted * dollars, abs=10)
