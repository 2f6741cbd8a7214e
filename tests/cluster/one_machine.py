"""A real SLURM on this machine alone: two cores, two GPUs that are none, all its files in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")

SLURM_CONF = """
ClusterName=onemachine
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
GresTypes=gpu
MinJobAge=3600
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# Any two device files will do: SLURM hands them out as GPU 0 and 1.
GRES_CONF = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


def why_not() -> str | None:
    """Return why SLURM cannot be started here, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=search_path()) is None]
    if missing:
        return f"no SLURM here (no {', '.join(missing)}): `make test-slurm` as root on Debian or Ubuntu installs it"
    return None if os.getuid() == 0 else "SLURM's daemons can be started by root only"


def search_path() -> str:
    """PATH with the folders where daemons are installed."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run SLURM out of ``folder`` during the block; yield what its clients need in their environment."""
    host = socket.gethostname().split(".")[0]
    ports = {"controller": _free_port(), "daemon": _free_port()}
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(folder=folder, host=host, **ports))
    (folder / "gres.conf").write_text(GRES_CONF)
    _keep_configuration(folder / "bin", conf)
    client = {"SLURM_CONF": str(conf), "PATH": f"{folder / 'bin'}{os.pathsep}{search_path()}"}
    with ExitStack() as daemons:
        daemons.enter_context(_daemon(_munged(folder), client))
        _wait(lambda: (folder / "munge.socket").exists(), "munged")
        daemons.enter_context(_daemon(["slurmctld", "-D", "-c", "-f", str(conf)], client))
        daemons.enter_context(_daemon(["slurmd", "-D", "-N", host, "-f", str(conf)], client))
        _wait(lambda: "idle" in _states(client), "SLURM")
        try:
            yield client
        finally:
            # slurmd leaves the steps it has started behind.
            subprocess.run(["scancel", "--user=root"], env=os.environ | client, check=False)
            _wait(lambda: not _queue(client), "the end of all jobs")


def _munged(folder: Path) -> list[str]:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    files = {
        "key-file": key,
        "socket": folder / "munge.socket",
        "pid-file": folder / "munged.pid",
        "log-file": folder / "munged.log",
        "seed-file": folder / "munged.seed",
    }
    return ["munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())]


def _keep_configuration(bin_folder: Path, conf: Path) -> None:
    # The executor takes all SLURM_ variables from srun, which elsewhere finds its configuration in /etc.
    srun = bin_folder / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {shutil.which("srun", path=search_path())} "$@"\n')
    srun.chmod(0o755)


@contextmanager
def _daemon(command: list[str], client: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=os.environ | client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _states(client: dict[str, str]) -> str:
    return _output(["sinfo", "--noheader", "--format=%T"], client)


def _queue(client: dict[str, str]) -> str:
    return _output(["squeue", "--noheader"], client)


def _output(command: list[str], client: dict[str, str]) -> str:
    return subprocess.run(command, env=os.environ | client, capture_output=True, text=True, check=False).stdout


def _wait(reached: object, what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited for {what} in vain")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
