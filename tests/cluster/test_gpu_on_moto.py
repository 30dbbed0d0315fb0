"""`cluster/gpu.yaml` with Ray's AWS code against moto's EC2: what would be started, and who could reach it."""

from collections.abc import Iterator
from typing import Any

import boto3
import moto
import pytest
from ray.autoscaler._private.aws import config, utils
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import NODE_KIND_HEAD, NODE_KIND_WORKER, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from tests.cluster import gpu_file

pytestmark = pytest.mark.slow

REGION = "us-west-2"
USER = "203.0.113.7/32"  # An address that is reserved for documentation.


@pytest.fixture(scope="module")
def ec2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """EC2 in this process, with the two profiles; keys of no account, and a home for the key pair that Ray makes."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    with pytest.MonkeyPatch.context() as patch, moto.mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("HOME", str(home))
        for name in ("dynrcnn-head", "dynrcnn-worker"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=name)
        yield boto3.resource("ec2", region_name=REGION)
    # Ray keeps clients and subnets; another module's account must not find them.
    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()
    config._get_subnets_or_die.cache_clear()


@pytest.fixture(scope="module")
def group(ec2) -> Any:
    """The security group as cluster/README.md makes it."""
    vpc = next(iter(ec2.vpcs.filter(Filters=[{"Name": "is-default", "Values": ["true"]}])))
    made = ec2.create_security_group(GroupName="dynrcnn", Description="dynrcnn cluster", VpcId=vpc.id)
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": USER}]}
    inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": made.id}]}
    made.authorize_ingress(IpPermissions=[ssh, inside])
    return made


@pytest.fixture(scope="module")
def started(ec2, group) -> dict[str, Any]:
    """The file as `ray up` completes it against AWS, and a head, a node on demand and a spot node of it, started."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    image = next(iter(ec2.images.all())).id
    content = gpu_file.filled(REGION=REGION, SECURITY_GROUP=group.id, BUCKET="bucket", AMI=image)
    prepared = prepare_config(content)
    validate_config(prepared)
    cluster = bootstrap_aws(prepared)
    provider = AWSNodeProvider(cluster["provider"], cluster["cluster_name"])
    for node_type in ("head", "gpu_on_demand", "gpu_spot"):
        kind = NODE_KIND_HEAD if node_type == "head" else NODE_KIND_WORKER
        tags = {TAG_RAY_NODE_KIND: kind, TAG_RAY_USER_NODE_TYPE: node_type}
        provider.create_node(cluster["available_node_types"][node_type]["node_config"], tags, 1)
    return cluster


def test_no_group_is_made_and_only_the_user_reaches_ssh(ec2, group, started):
    instances = list(ec2.instances.all())
    assert {found["GroupId"] for instance in instances for found in instance.security_groups} == {group.id}
    assert {made.group_name for made in ec2.security_groups.all()} == {"default", "dynrcnn"}
    group.reload()
    ranges = [
        (rule["FromPort"], rule["ToPort"], each["CidrIp"]) for rule in group.ip_permissions for each in rule["IpRanges"]
    ]
    assert ranges == [(22, 22, USER)]


def test_spot_nodes_are_spot_and_all_have_their_profile(ec2, started):
    found = {}
    for instance in ec2.instances.all():
        tags = {tag["Key"]: tag["Value"] for tag in instance.tags}
        # The head's role may start and end nodes of this tag alone.
        assert tags["ray-cluster-name"] == started["cluster_name"] == "dynrcnn"
        found.setdefault(tags[TAG_RAY_USER_NODE_TYPE], []).append(instance)
    assert {name: len(nodes) for name, nodes in found.items()} == {"head": 1, "gpu_on_demand": 1, "gpu_spot": 1}
    assert {node.instance_lifecycle for node in found["gpu_spot"]} == {"spot"}
    assert {node.instance_lifecycle for node in found["gpu_on_demand"] + found["head"]} == {None}
    assert {node.instance_type for node in found["gpu_spot"] + found["gpu_on_demand"]} == {"g5.48xlarge"}
    types = started["available_node_types"]
    profiles = {name: group["node_config"]["IamInstanceProfile"]["Name"] for name, group in types.items()}
    assert profiles == {"head": "dynrcnn-head", "gpu_on_demand": "dynrcnn-worker", "gpu_spot": "dynrcnn-worker"}


def test_without_the_groups_ids_ray_would_open_ssh_to_the_world(ec2, group):
    """Why the file names them: the rules of `provider.security_group` are only added to Ray's own.

    Last, for it makes another group.
    """
    from ray.autoscaler._private.aws.config import bootstrap_aws

    image = next(iter(ec2.images.all())).id
    content = gpu_file.filled(REGION=REGION, SECURITY_GROUP=group.id, BUCKET="bucket", AMI=image)
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": USER}]}
    content["provider"]["security_group"] = {"GroupName": "made-by-ray", "IpPermissions": [rule]}
    for node_type in content["available_node_types"].values():
        del node_type["node_config"]["SecurityGroupIds"]
    bootstrap_aws(prepare_config(content))
    (made,) = ec2.security_groups.filter(GroupNames=["made-by-ray"])
    assert "0.0.0.0/0" in {each["CidrIp"] for rule in made.ip_permissions for each in rule["IpRanges"]}
