"""A cloud in namespaces of this machine: moto's EC2 and S3, and a machine of its own for each instance that EC2 starts.

A machine has its own processes, network and folders. It sees this machine's programs, read-only, but neither its
processes nor its home, and reaches no address outside the cloud. So `ray stop`, which ends every Ray that it finds by
name, finds those of that machine alone. With the cloud's first process everything in it ends.

`small_cloud` starts this file with namespaces around it. The user's own machine is one more, in the cloud's network.
"""

import contextlib
import json
import logging
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = ("curl", "ip", "nsenter", "rsync", "ssh", "sshd", "unshare")
REGION = "us-west-2"
BUCKET = "bucket"
HOME = "/home/ubuntu"
ADDRESS = "10.0.0.1"
NETWORK = Path("/proc/sys/net/ipv4")
# Keys of no account, and moto's address in place of Amazon's.
AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ENDPOINT_URL": f"http://{ADDRESS}:5000",
}
# What Amazon's image has and this machine may lack. The user `ubuntu` may do everything here without sudo.
_OF_AMAZONS_IMAGE = {
    "sudo": '#!/bin/sh\nexec "$@"\n',
    "aws": """#!/bin/sh -e
# aws s3 cp --quiet s3://BUCKET/KEY FILE
test "$1 $2 $3" = "s3 cp --quiet"
exec curl --fail --silent --show-error --output "$5" "$AWS_ENDPOINT_URL/${4#s3://}"
""",
}
_MACHINES = "machines.json"
_LOG = "cloud.log"
_NAMESPACES = ("--net", "--pid", "--mount")
_SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Cloud:
    """A running cloud: what it holds for the placeholders of `gpu.yaml`, its folder, and its first process."""

    made: dict[str, str]
    folder: Path
    pid: int

    @property
    def home(self) -> Path:
        """The user's home, seen from outside."""
        return self.folder / "laptop" / HOME.lstrip("/")

    def machines(self) -> list[dict[str, Any]]:
        """Each instance that was ever started: its node type, state and private address, and whether it runs."""
        return json.loads((self.folder / _MACHINES).read_text())

    def run(self, command: str, timeout: int = 120) -> str:
        """Run a line of shell on the user's machine, in the repository, with its virtual environment active.

        Returns:
            What it printed. It must succeed. What it starts with `&` runs on, until the cloud ends.
        """
        environment = {"HOME": HOME, "LOGNAME": "ubuntu", "TERM": "dumb", "LANG": "C.UTF-8", "RAY_AUTH_MODE": "token"}
        environment |= {"PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
        enter = ["nsenter", "--target", str(self.pid), *_NAMESPACES, "chroot", str(self.folder / "laptop")]
        shell = ["timeout", "--kill-after=5", str(timeout), "sh", "-c", f"cd {REPOSITORY} && {command}"]
        done = subprocess.run(
            [*enter, *shell],
            env=environment | AWS | self.made,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{(self.folder / _LOG).read_text()}"
        return done.stdout


def missing() -> list[str]:
    """What this machine lacks for a cloud."""
    lacks = [name for name in PROGRAMS if not shutil.which(name, path=_SEARCH)]
    if os.geteuid() != 0:
        return [*lacks, "root"]
    trial = ["unshare", *_NAMESPACES, "--fork", "ip", "link", "add", "type", "veth"]
    if not lacks and subprocess.run(trial, capture_output=True, check=False).returncode:
        return ["the right to make namespaces"]
    return lacks


@contextlib.contextmanager
def small_cloud(bucket: Path) -> Iterator[Cloud]:
    """Start a cloud, with the files of a folder in its bucket; end it, all its machines and their files with it."""
    folder = Path(tempfile.mkdtemp(prefix="cloud_"))
    log = folder / _LOG
    line = ["unshare", *_NAMESPACES, "--fork", "--mount-proc", sys.executable, __file__, str(folder), str(bucket)]
    environment = os.environ | AWS | {"PATH": _SEARCH}
    pipe = subprocess.PIPE
    with log.open("w") as err:
        process = subprocess.Popen(line, env=environment, stdin=pipe, stdout=pipe, stderr=err, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        made = process.stdout.readline()
        assert made, log.read_text()
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        yield Cloud(json.loads(made), folder, int(first))
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
        shutil.rmtree(folder)


def serve(folder: Path, bucket: Path) -> None:
    """Be the cloud until the standard input ends: answer for Amazon, and give every running instance a machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    # Machines reach each other through this network, which answers for all of their addresses at once.
    for name in ("ip_forward", "conf/all/proxy_arp"):
        (NETWORK / name).write_text("1")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ADDRESS, 5000, verbose=False)
    server.start()
    _make_root(folder / "laptop")
    _run("mount", "-t", "proc", "proc", str(folder / "laptop" / "proc"))
    print(json.dumps(_what_the_readme_makes(bucket)), flush=True)
    ec2 = boto3.resource("ec2")
    machines: dict[str, subprocess.Popen[bytes]] = {}
    while not select.select([sys.stdin], [], [], 0.5)[0]:
        instances = {instance.id: instance for instance in ec2.instances.all()}
        for name, instance in instances.items():
            if name not in machines:
                machines[name] = _boot(folder / name, instance, number=len(machines))
            elif instance.state["Name"] == "terminated":
                machines[name].kill()
                machines[name].wait()
        rows = [_row(instance) | {"runs": machines[name].poll() is None} for name, instance in instances.items()]
        aside = folder / "aside"  # A reader finds a whole file.
        aside.write_text(json.dumps(rows))
        aside.rename(folder / _MACHINES)
    server.stop()


def _row(instance: Any) -> dict[str, Any]:
    tags = {tag["Key"]: tag["Value"] for tag in instance.tags or []}
    node_type, state = tags.get(TAG_RAY_USER_NODE_TYPE), instance.state["Name"]
    return {"node_type": node_type, "state": state, "address": instance.private_ip_address}


def _what_the_readme_makes(bucket: Path) -> dict[str, str]:
    """The bucket, the security group and the profiles of cluster/README.md; the placeholders of `gpu.yaml`."""
    import boto3

    ec2, iam, s3 = boto3.resource("ec2"), boto3.client("iam"), boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for file in bucket.rglob("*.*"):
        # Readable without a signature, for curl.
        s3.upload_file(str(file), BUCKET, str(file.relative_to(bucket)), ExtraArgs={"ACL": "public-read"})
    vpc = next(iter(ec2.vpcs.filter(Filters=[{"Name": "is-default", "Values": ["true"]}])))
    group = ec2.create_security_group(GroupName="dynrcnn", Description="dynrcnn cluster", VpcId=vpc.id)
    for name in ("dynrcnn-head", "dynrcnn-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    image = next(iter(ec2.images.all())).id
    return {"REGION": REGION, "SECURITY_GROUP": group.id, "BUCKET": BUCKET, "AMI": image}


def _boot(root: Path, instance: Any, number: int) -> subprocess.Popen[bytes]:
    """A machine with the instance's addresses, whose first process is an ssh server that knows the instance's key."""
    import boto3

    _make_root(root)
    if instance.instance_type.startswith("g5."):  # Amazon's image mounts the local disk here.
        (root / "opt" / "dlami" / "nvme").mkdir(parents=True)
    pair = boto3.client("ec2").describe_key_pairs(KeyNames=[instance.key_name], IncludePublicKey=True)["KeyPairs"][0]
    known = root / HOME.lstrip("/") / ".ssh" / "authorized_keys"
    known.parent.mkdir(mode=0o700)
    known.write_text(pair["PublicKey"])
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "etc" / "host_key"))
    # Ray's autoscaler looks each second, not each fifth, for work that waits.
    environment = " ".join(f"{name}={value}" for name, value in (AWS | {"AUTOSCALER_UPDATE_INTERVAL_S": "1"}).items())
    settings = ["HostKey /etc/host_key", "PermitRootLogin prohibit-password", "UsePAM no", "PrintLastLog no"]
    settings += [f"SetEnv {environment}"]
    (root / "etc" / "sshd_config").write_text("\n".join(settings) + "\n")
    sshd = ["chroot", str(root), "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/sshd_config"]
    unshare = ["unshare", *_NAMESPACES, "--fork", "--kill-child", f"--mount-proc={root / 'proc'}"]
    with (root / "sshd.log").open("w") as log:
        machine = subprocess.Popen([*unshare, *sshd], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    own = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{machine.pid}/ns/net") == own:
        time.sleep(0.01)
    cable, inside = f"cable{number}", ("nsenter", "--target", str(machine.pid), "--net", "ip")
    public, private = instance.public_ip_address, instance.private_ip_address
    _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
    _run("ip", "link", "set", cable, "up")
    (NETWORK / "neigh" / cable / "proxy_delay").write_text("0")
    for address in (public, private):
        _run("ip", "route", "add", f"{address}/32", "dev", cable, "src", ADDRESS)
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "link", "set", "eth0", "up")
    _run(*inside, "address", "add", f"{private}/32", "dev", "eth0")
    _run(*inside, "address", "add", f"{public}/32", "dev", "lo")
    _run(*inside, "route", "add", "default", "dev", "eth0", "src", private)
    return machine


def _make_root(root: Path) -> None:
    """The folders of a machine: this machine's programs and this repository, read-only; all else its own, and empty."""
    (root / "etc").mkdir(parents=True)
    for name in ("alternatives", "bash.bashrc", "group", "hosts", "ld.so.cache", "nsswitch.conf", "profile", "ssl"):
        if (found := Path("/etc") / name).is_dir():
            shutil.copytree(found, root / "etc" / name, symlinks=True)
        elif found.exists():
            shutil.copy(found, root / "etc")
    # Amazon's Ubuntu lets its user do everything by sudo. Here it may do everything by itself.
    (root / "etc" / "passwd").write_text(f"ubuntu:x:0:0::{HOME}:/bin/bash\nsshd:x:1:1::/run/sshd:/usr/sbin/nologin\n")
    for name in ("run/sshd", "var/log", "proc", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "var" / "log" / "lastlog").touch()
    shutil.copytree("/etc/skel", root / HOME.lstrip("/"))
    for name in ("bin", "lib", "lib64", "sbin"):
        if (found := Path("/") / name).is_symlink():
            (root / name).symlink_to(found.readlink())
        elif found.exists():
            _bind(found, root)
    packages = {Path(entry) for entry in sys.path if entry.endswith("-packages")}
    folders = {Path("/usr"), REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), *packages}
    for found in sorted(folders):
        if not any(other in found.parents for other in folders):
            _bind(found, root)
    _bind(Path("/sys"), root)
    _bind(Path("/dev"), root, "rbind")
    _run("mount", "-t", "tmpfs", "tmpfs", str(root / "dev" / "shm"))
    (root / "programs").mkdir()
    for name, text in _OF_AMAZONS_IMAGE.items():
        (root / "programs" / name).write_text(text)
        (root / "programs" / name).chmod(0o755)
    _run("mount", "-o", "bind", str(root / "programs"), str(root / "usr" / "local" / "sbin"))


def _bind(found: Path, root: Path, options: str = "bind,ro") -> None:
    point = root / str(found).lstrip("/")
    point.mkdir(parents=True)
    _run("mount", "-o", options, str(found), str(point))


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
