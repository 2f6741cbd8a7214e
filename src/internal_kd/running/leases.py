"""GPU leases: parallel jobs on one machine get different GPUs, although Snakemake only counts them.

A lease is a lock held for the life of the job, one file for each slot of a GPU, so the kernel frees it even after
SIGKILL. It is taken before torch is imported and sets ``CUDA_VISIBLE_DEVICES``. If that is set already, it is the list
to choose from; inside a SLURM job the scheduler has chosen, and only if it gave several is one of them leased.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from internal_kd.held import Hold, InUse, take
from internal_kd.plan.identity import WORK

POLL_SECONDS = 1.0


@contextmanager
def lease_gpu(jobs_per_gpu: int, folder: Path | None = None) -> Iterator[str | None]:
    """Hold one GPU during the block and yield its id; yield None if there is no GPU to lease.

    Waits while all GPUs are taken. ``folder`` holds the locks; all clones of one user on a machine share it.

    Raises:
        UserError: the folder of the locks cannot be written.
    """
    job = os.environ.get("SLURM_JOB_ID")
    # A GPU of the node that SLURM has not given to this job is somebody else's.
    gpus = [] if job and "CUDA_VISIBLE_DEVICES" not in os.environ else available_gpus()
    if job and len(gpus) == 1:
        print(f"SLURM has given GPU {gpus[0]} to job {job}", flush=True)
        yield gpus[0]
        return
    if not gpus:
        print("no GPU here: computing on the CPU", flush=True)
        yield None
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Jobs on one node may all call their GPUs 0 and 1 and mean different ones.
    gpu, lease = _take_one(gpus, jobs_per_gpu, (folder or lease_folder()) / (f"slurm-{job}" if job else ""))
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield gpu
    finally:
        lease.release()
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def available_gpus() -> list[str]:
    """Return the ids of the GPUs this process may use: those of CUDA_VISIBLE_DEVICES, or all of the machine."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() not in ("", "-1", "NoDevFiles")]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")] if listed.returncode == 0 else []
    return [str(number) for number in range(len(lines))]


def lease_folder() -> Path:
    """Return the folder of this user's leases on this machine, one that nobody else can write.

    The name tells it in a folder that all users share, so another user may have taken it: then the project's own
    folder is used, and only its jobs know of each other.
    """
    folder = Path(tempfile.gettempdir()) / f"internal-kd-gpus-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            folder.chmod(0o700)
            return folder
        problem = "it belongs to another user or is not a folder"
    except OSError as error:
        problem = str(error.strerror)
    own = WORK / "gpus" / socket.gethostname()
    print(f"{folder} cannot be used ({problem}): GPUs are leased in {own}, to this project's jobs only", flush=True)
    return own


def _take_one(gpus: list[str], jobs_per_gpu: int, folder: Path) -> tuple[str, Hold]:
    announced = False
    while True:
        # Every GPU gets its first job before any gets its second.
        for slot in range(jobs_per_gpu):
            for gpu in gpus:
                try:
                    return gpu, take(folder / f"{gpu.replace('/', '_')}.{slot}.lock", {"what": f"GPU {gpu}"})
                except InUse:
                    continue
        if not announced:
            print(f"waiting for a free GPU (all {len(gpus)} in use)", flush=True)
            announced = True
        time.sleep(POLL_SECONDS)
