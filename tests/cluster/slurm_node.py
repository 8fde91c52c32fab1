"""A whole SLURM on this machine: one controller, one node, its own key and ports, gone when the block ends.

From Debian's packages slurm-wlm and munge; needs root, for daemons of both insist on it. Nothing outside its
folder is touched, so that it stands beside a SLURM that is there already.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PACKAGES = "slurm-wlm munge"
START_SECONDS = 120
SETTINGS = """\
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldTimeout=300
SlurmdTimeout=300
MessageTimeout=60
BatchStartTimeout=60
InactiveLimit=0
MinJobAge=300
KillWait=60
JobRequeue=1
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=01:00:00 State=UP
"""


def missing() -> str:
    """Why there can be no SLURM here, empty where there can."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    lacking = [name for name in DAEMONS if shutil.which(name) is None]
    return f"no {', '.join(lacking)}: apt-get install {PACKAGES}" if lacking else ""


@contextmanager
def slurm_node(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons with all they write in `folder`; yields the variables that programs need to find them."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    ports = _free_ports(2)
    settings = folder / "slurm.conf"
    settings.write_text(SETTINGS.format(folder=folder, ports=ports, cpus=len(os.sched_getaffinity(0))))
    environment = {"SLURM_CONF": str(settings)}
    munge = ["--key-file=munge.key", "--socket=munge.socket", "--pid-file=munge.pid", "--log-file=munge.log"]
    commands = (
        ["munged", "--force", "--foreground", "--num-threads=2", "--seed-file=munge.seed", *munge],
        ["slurmctld", "-D", "-f", str(settings)],
        ["slurmd", "-D", "-N", "localhost", "-f", str(settings)],
    )
    daemons = list[subprocess.Popen[bytes]]()
    try:
        for command in commands:
            absolute = [part.replace("=munge.", f"={folder}/munge.") for part in command]
            log = (folder / f"{command[0]}.out").open("wb")
            daemons.append(subprocess.Popen(absolute, stdout=log, stderr=log, env=os.environ | environment))
            if command[0] == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), daemons, folder)
        _wait(lambda: _idle(environment), daemons, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--full", "--user=root"], env=os.environ | environment, check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=60)
            daemon.kill()


def _idle(environment: dict[str, str]) -> bool:
    command = ["sinfo", "--noheader", "--format=%T"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "idle"


def _wait(ready: Callable[[], bool], daemons: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        dead = [daemon.args for daemon in daemons if daemon.poll() is not None]
        if dead or time.monotonic() > deadline:
            logs = {p.name: p.read_text(errors="replace")[-1000:] for p in folder.glob("*.[lo][ou][gt]")}
            raise RuntimeError(f"SLURM does not start: {dead} {logs}")
        time.sleep(0.3)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
