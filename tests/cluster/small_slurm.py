"""A Slurm cluster in namespaces of this machine: Debian's `slurmctld` and `munged`, and two nodes with a `slurmd` each.

A node has its own processes, network and name; files are this machine's. So a job's end can be seen, a node can die,
and no Ray of this machine is touched. With the cluster's first process everything in it ends.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("ip", "munged", "nsenter", "sbatch", "slurmctld", "slurmd", "unshare")
NODES = {"node1": "10.0.0.2", "node2": "10.0.0.3"}
_NAMESPACES = ("--net", "--pid", "--mount", "--uts")
_SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
# Ends with its standard input. Bash, here and on a node, buries the dead that their parents have left.
_FIRST = "echo; exec 3<&0; cat <&3 > /dev/null & wait"
# Without cgroups, which a container may lack, and with cores that this machine need not have. A job that is started
# anew waits until its credentials of before are void: for some seconds, not two minutes.
_CONFIGURATION = """
ClusterName=small
SlurmctldHost=head
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.slurmd.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
SlurmdParameters=config_overrides
SlurmdTimeout=6
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=10
SchedulerParameters=sched_interval=3
NodeName=node1,node2 CPUs=4
PartitionName=all Nodes=ALL Default=YES
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster: its folder, and the process in whose namespaces its commands run."""

    folder: Path
    pid: int

    def run(self, *command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        """What a command prints that runs beside `slurmctld`; it must succeed."""
        enter = ["nsenter", "--target", str(self.pid), *_NAMESPACES]
        if cwd:
            enter.append(f"--wdns={cwd}")
        environment = {**(env or os.environ), "SLURM_CONF": str(self.folder / "slurm.conf")}
        environment["PATH"] = f"{environment['PATH']}:/usr/sbin:/sbin"
        done = subprocess.run([*enter, *command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def boot(self, name: str) -> None:
        """Start a node, and wait until jobs can run there."""
        booted, script = self.folder / f"{name}.booted", self.folder / f"{name}.sh"
        booted.unlink(missing_ok=True)
        script.write_text(f"""
            echo $$ > {self.folder}/{name}.pid
            exec unshare {" ".join(_NAMESPACES)} --fork --kill-child --mount-proc bash -c '
                echo {name} > /proc/sys/kernel/hostname
                touch {booted}
                until ip link show eth0 2> /dev/null; do sleep 0.1; done
                ip link set lo up
                ip address add {NODES[name]}/24 dev eth0
                ip link set eth0 up
                slurmd -D & wait'
        """)
        self.run("sh", "-c", f"sh {script} > {self.folder}/{name}.out 2>&1 < /dev/null &")
        wait_for(booted.exists, 10, f"{name} to boot")
        pid = int((self.folder / f"{name}.pid").read_text())
        line = f"""
            init=$(cat /proc/{pid}/task/{pid}/children)
            ip link add {name} type veth peer name eth0 netns $init
            ip link set {name} master bridge up
        """
        self.run("sh", "-ec", line)
        wait_for(lambda: self.run("sinfo", "-h", "-n", name, "-o", "%t") in ("idle", "mix", "alloc"), 30, name)

    def kill(self, name: str) -> None:
        """End a node with all that runs there, as a power cut does."""
        self.run("kill", "-KILL", (self.folder / f"{name}.pid").read_text().strip())

    def submit(self, *arguments: str, cwd: Path, env: dict[str, str]) -> str:
        """The id of a job by `sbatch`, whose output goes to a file named after it in the cluster's folder."""
        output = f"--output={self.folder}/job_%j.out"
        return self.run("sbatch", "--parsable", output, *arguments, cwd=cwd, env=env)

    def state(self, job: str) -> str:
        """A job's state, such as RUNNING."""
        return self.show(job, "JobState")

    def show(self, job: str, field: str) -> str:
        """A field of a job by `scontrol`."""
        words = self.run("scontrol", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{field}="))

    def output(self, job: str) -> str:
        """What a job has printed."""
        file = self.folder / f"job_{job}.out"
        return file.read_text() if file.exists() else ""

    def processes(self) -> list[str]:
        """The command lines of all processes of the cluster, its nodes' too."""
        return self.run("ps", "-e", "-ww", "-o", "args=").splitlines()


def wait_for(is_so: Callable[[], bool], seconds: float, what: str) -> None:
    """Look four times a second whether it is so; it must be within the time."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"waited {seconds} seconds for {what}"
        time.sleep(0.25)


def missing() -> list[str]:
    """What this machine lacks for a Slurm cluster."""
    lacks = [name for name in PROGRAMS if not shutil.which(name, path=_SEARCH)]
    if os.geteuid() != 0:
        return [*lacks, "root"]
    trial = ["unshare", *_NAMESPACES, "--fork", "ip", "link", "add", "type", "bridge"]
    if not lacks and subprocess.run(trial, env={"PATH": _SEARCH}, capture_output=True, check=False).returncode:
        return ["the right to make namespaces"]
    return lacks


@contextlib.contextmanager
def small_slurm() -> Iterator[Slurm]:
    """Start a cluster with its nodes; end it, and all its processes and files."""
    folder = Path(tempfile.mkdtemp(prefix="slurm_"))
    first = subprocess.Popen(
        ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc", "bash", "-c", _FIRST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert first.stdin is not None
    assert first.stdout is not None
    try:
        first.stdout.readline()
        child = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text()
        slurm = Slurm(folder, int(child))
        _start(slurm)
        yield slurm
    finally:
        first.stdin.close()
        first.wait()
        first.stdout.close()
        shutil.rmtree(folder)


def _start(slurm: Slurm) -> None:
    folder = slurm.folder
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(folder=folder))
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    addresses = {"head": "10.0.0.1"} | NODES
    (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in addresses.items()))
    script = f"""
        mount --bind {folder}/hosts /etc/hosts
        echo head > /proc/sys/kernel/hostname
        ip link set lo up
        ip link add bridge type bridge
        ip address add 10.0.0.1/24 dev bridge
        ip link set bridge up
        munged --force --socket={folder}/munge.socket --key-file={folder}/munge.key --pid-file={folder}/munged.pid \
            --log-file={folder}/munged.log --seed-file={folder}/munged.seed
        slurmctld
    """
    slurm.run("sh", "-ec", script)
    for name in NODES:
        slurm.boot(name)
