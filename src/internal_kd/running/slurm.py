"""SLURM jobs whose Snakemake is gone: found by folder and name, ended before the same work is submitted again.

A Snakemake that is killed leaves its jobs in the queue. A later one would submit the same work a second time, and the
old jobs, when their turn comes, would delete and make again what has been made in the meantime.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from internal_kd.errors import UserError
from internal_kd.report.words import count

# The executor plugin names jobs after a Snakemake's start, `<prefix>_<uuid>` or `<uuid>`; their comment names the rule.
NAME = re.compile(r"(?:^|_)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
# The plugin's own logs: where they are, SLURM has been used from here.
LOGS = Path(".snakemake/slurm_logs")
STATES = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING"
# A training ends after the step it is at and writes its checkpoint, a gigabyte or two for a teacher of BERT's size.
GRACE_SECONDS = 120.0
CANCEL_SECONDS = 90.0
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class SlurmJob:
    """A job in the queue: its number, state, name and the folder it was submitted from."""

    number: str
    state: str
    name: str
    folder: str


def end_orphans(say: Callable[[str], None]) -> None:
    """End the jobs that a Snakemake which is gone has left in SLURM's queue for this folder, and wait for their end.

    Jobs that wait are cancelled; trainings that run are asked by SIGTERM to write a checkpoint first. Call it while you
    hold the project's lock: otherwise the jobs may be those of a Snakemake at work.

    Raises:
        UserError: SLURM does not answer although it has been used from here, or the jobs do not end.
    """
    jobs = jobs_here()
    if not jobs:
        return
    running = [job for job in jobs if job.state == "RUNNING"]
    say(
        f"{count(len(jobs), 'job')} of a Snakemake that was killed still in SLURM's queue, {len(running)} running: "
        "they are ended before anything is submitted again; trainings write a checkpoint first"
    )
    _scancel([job for job in jobs if job.state != "RUNNING"])
    _scancel(running, "--signal=TERM")
    if not _gone_within(GRACE_SECONDS):
        _scancel(jobs_here())
        if not _gone_within(CANCEL_SECONDS):
            numbers = ", ".join(job.number for job in jobs_here())
            raise UserError(
                f"SLURM jobs {numbers} of an earlier Snakemake do not end: look at `squeue`, then start again"
            )
    say("they have ended")


def jobs_here() -> list[SlurmJob]:
    """Return this user's jobs in SLURM's queue that a Snakemake submitted from this folder; none without SLURM.

    Raises:
        UserError: SLURM does not answer although it has been used from here.
    """
    if shutil.which("squeue") is None:
        return []
    listed = _call("squeue", "--noheader", f"--user={os.getuid()}", f"--states={STATES}", "--format=%i|%T|%j|%Z")
    if listed.returncode != 0:
        if not LOGS.is_dir():
            return []
        raise UserError(
            f"SLURM does not answer, and jobs of an earlier Snakemake may be in its queue: {_last_line(listed.stderr)}"
        )
    here = os.path.realpath(Path.cwd())
    jobs = [SlurmJob(*line.split("|", 3)) for line in listed.stdout.splitlines() if line.count("|") >= 3]
    return [job for job in jobs if NAME.search(job.name) and os.path.realpath(job.folder) == here]


def _gone_within(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while jobs_here():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _scancel(jobs: Sequence[SlurmJob], *options: str) -> None:
    # What has ended meanwhile makes scancel complain; whether the jobs are gone is seen in the queue.
    if jobs:
        _call("scancel", *options, *(job.number for job in jobs))


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} gave no answer in a minute")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
