"""The roles of cluster/README.md: its own commands, run with an `aws` that writes down what it is told."""

import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

README = Path(__file__).resolve().parents[2] / "cluster" / "README.md"
GPU_FILE = README.with_name("gpu.yaml")
CHANGES_NODES = ("RunInstances", "TerminateInstances", "StopInstances", "StartInstances", "DeleteTags")
AWS = 'aws() { if [ "$1" = sts ]; then echo 123456789012; else printf "%s\\n" "$@" --; fi; }'


@pytest.fixture(scope="module")
def policies() -> dict[str, list[dict[str, Any]]]:
    """The statements of each role's policy."""
    (block,) = (text for text in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL) if "ACCOUNT=" in text)
    script = f"set -eu; export REGION=us-west-2 BUCKET=bucket SECURITY_GROUP=sg-1\n{AWS}\n{block}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    calls = [call.split("\n") for call in done.stdout.split("\n--\n")]
    puts = [call for call in calls if "put-role-policy" in call]
    given = [dict(zip(call[2::2], call[3::2], strict=False)) for call in puts]
    return {each["--role-name"]: json.loads(each["--policy-document"])["Statement"] for each in given}


def actions(statement: dict[str, Any]) -> list[str]:
    return statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


def allows(statements: list[dict[str, Any]], action: str, resource: str, tags: dict[str, str]) -> bool:
    """Whether a policy allows an action on a resource of these tags, with these tags in the request."""
    known = {f"{kind}/{name}": value for name, value in tags.items() for kind in ("aws:ResourceTag", "aws:RequestTag")}
    for statement in statements:
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        conditions = statement.get("Condition", {}).get("StringEquals", {})
        if (
            any(fnmatch(action, pattern) for pattern in actions(statement))
            and any(fnmatch(resource, pattern) for pattern in resources)
            and all(known.get(key) == value for key, value in conditions.items())
        ):
            return True
    return False


@pytest.mark.parametrize("action", CHANGES_NODES)
def test_the_head_changes_the_clusters_own_nodes_alone(policies: dict[str, list[dict[str, Any]]], action: str):
    instance = "arn:aws:ec2:us-west-2:123456789012:instance/i-1"
    own = {"ray-cluster-name": yaml.safe_load(GPU_FILE.read_text())["cluster_name"]}
    head, worker = policies["dynrcnn-head"], policies["dynrcnn-worker"]
    assert allows(head, f"ec2:{action}", instance, own)
    assert not allows(head, f"ec2:{action}", instance, {"ray-cluster-name": "another"})
    assert not allows(head, f"ec2:{action}", instance, {})
    assert not allows(worker, f"ec2:{action}", instance, own)


def test_only_looking_is_allowed_everywhere(policies: dict[str, list[dict[str, Any]]]):
    everywhere = [actions(each) for each in policies["dynrcnn-head"] if each["Resource"] == "*"]
    assert everywhere == [["ec2:Describe*"]]
