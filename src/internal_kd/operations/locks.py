"""Snakemake's locks, and whether their owner still lives.

Snakemake's lock files name no owner, so one killed with -9 leaves them behind for good. Here every Snakemake records
itself when it starts (owners.py). Locks are cleared only when no recorded owner is alive and no Snakemake process of
this machine works in this folder.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

from internal_kd.errors import UserError
from internal_kd.operations.owners import forget_the_dead, owners

LOCKS = Path(".snakemake/locks")


def clear_dead_locks() -> str | None:
    """Remove locks whose owner is dead and return a line that says so, or None where there are none.

    Raises:
        UserError: a living Snakemake, or one on another machine, is at work in this folder.
    """
    for owner in owners():
        if owner.alive and owner.here:
            raise UserError(f"snakemake is at work in this folder ({owner}): wait for it, or end it, and start again")
    if (other := next((owner for owner in owners() if owner.alive), None)) and _locked():
        raise UserError(
            f"snakemake is or was at work in this folder ({other}), which cannot be seen from here: if it has ended, "
            "run `snakemake --unlock` and start again"
        )
    if pids := snakemakes_here():
        raise UserError(
            f"snakemake is at work in this folder (process {pids[0]}): wait for it, or end it, and start again"
        )
    forget_the_dead()
    if not _locked():
        return None
    shutil.rmtree(LOCKS)
    return "locks left by a Snakemake that was killed are cleared: its process is gone"


def another_at_work() -> str | None:
    """Return a line that names another Snakemake at work in this folder, or None.

    For those who start snakemake themselves: its own words about a lock that is held name nobody.
    """
    own = {os.getpid(), os.getppid()}
    who = next((str(owner) for owner in owners() if owner.alive and owner.here and owner.pid not in own), None)
    if who is None and (pids := snakemakes_here()):
        who = f"process {pids[0]}"
    if who is None:
        return None
    return (
        f"another snakemake is at work in this folder ({who}): wait for it, or end it, and start again; "
        "`internal-kd status` shows how far it is"
    )


def snakemakes_here() -> list[int]:
    """Return the Snakemake processes of this machine that work in this folder, apart from our own ancestors.

    What a cluster's queue has started here is left out: about its jobs the queue is asked.
    """
    import psutil

    here = os.path.realpath(Path.cwd())
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            command = process.info["cmdline"] or []
            is_snakemake = any(Path(word).name == "snakemake" for word in command[:3])
            from_queue = ("--mode", "remote") in itertools.pairwise(command)
            if process.pid in own or from_queue or not is_snakemake:
                continue
            if os.path.realpath(process.cwd()) == here:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def _locked() -> bool:
    return LOCKS.is_dir() and any(LOCKS.iterdir())
