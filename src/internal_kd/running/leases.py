"""GPU leases: parallel jobs on one machine get different GPUs, although Snakemake only counts them.

A lease is a file lock held for the life of the job, so the kernel frees it even after SIGKILL. It is taken before torch
is imported and sets ``CUDA_VISIBLE_DEVICES``. A ``CUDA_VISIBLE_DEVICES`` that is set already is the list to choose
from; inside a SLURM job the scheduler has chosen, and only where it gave several is one of them leased.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

POLL_SECONDS = 1.0


@contextmanager
def lease_gpu(jobs_per_gpu: int, folder: Path | None = None) -> Iterator[str | None]:
    """Hold one GPU during the block and yield its id; yield None where there is nothing to lease.

    Waits while all GPUs are taken. ``folder`` holds the locks; all clones of one user on a machine share it.
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
    gpu, lock = _take_one(gpus, jobs_per_gpu, (folder or default_folder()) / (f"slurm-{job}" if job else ""))
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield gpu
    finally:
        lock.release()
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


def default_folder() -> Path:
    """Return the folder of a user's locks on this machine; a user may have a number and no name, as in a container."""
    return Path(tempfile.gettempdir()) / f"internal-kd-gpus-{os.getuid()}"


def _take_one(gpus: list[str], jobs_per_gpu: int, folder: Path) -> tuple[str, FileLock]:
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        # Every GPU gets its first job before any gets its second.
        for slot in range(jobs_per_gpu):
            for gpu in gpus:
                lock = FileLock(folder / f"{gpu.replace('/', '_')}.{slot}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                return gpu, lock
        if not told:
            print(f"all of {len(gpus)} GPUs are taken: waiting for one", flush=True)
            told = True
        time.sleep(POLL_SECONDS)
