"""One Snakemake at a time works in a project's folder, and everybody can see which.

``work/snakemake.lock`` is held by the Snakemake at work, ``work/run.lock`` by the ``internal-kd run`` that follows it.
A Snakemake inherits its lock from the ``internal-kd run`` that starts it, so it still counts as at work when that is
killed; one that is started by hand takes it itself, in the Snakefile's ``onstart``.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from internal_kd.checksums import DAMAGED
from internal_kd.errors import UserError
from internal_kd.files import writing_failed
from internal_kd.held import Hold, InUse, describe, is_held, read_note, take, untested
from internal_kd.plan.identity import DATA, RUNS, WORK
from internal_kd.running.slurm import end_orphans

RUN = WORK / "run.lock"
SNAKEMAKE = WORK / "snakemake.lock"
# The environment variable that names the descriptor by which Snakemake inherits its lock.
INHERITED = "INTERNAL_KD_LOCK"
# Snakemake's own lock files name no process, so those of a Snakemake that was killed stay.
STALE = Path(".snakemake/locks")

_holds: list[Hold] = []


def start_work(params: Path | str, say: Callable[[str], None]) -> None:
    """Hold the project's lock until ``end_work``; called by the Snakefile when its jobs are about to start.

    ``params`` is the file of the study that is made, for those who look at the progress.

    Raises:
        UserError: another Snakemake is, or may be, at work in this folder.
    """
    note = {"what": "internal-kd run", "params": str(params), "group": os.getpgrp()}
    if hold := _inherited():
        hold.write(note)
    else:
        check_testable()
        try:
            hold = take(SNAKEMAKE, {**note, "what": "snakemake"})
        except InUse as error:
            raise UserError(
                f"{describe(error.note)} is at work in this folder: wait until it has ended, or end it, and start "
                "again; `internal-kd status` shows how far it is"
            ) from None
        end_orphans(say)
    _holds.append(hold)


def end_work() -> None:
    """Let go of the project's lock; called by the Snakefile when its jobs have ended."""
    while _holds:
        _holds.pop().release()


def check_testable() -> None:
    """Refuse to start where somebody may be at work who cannot be seen from here.

    Raises:
        UserError: names the machine, and what to delete if nobody works there any more.
    """
    for path in (SNAKEMAKE, RUN):
        if left := untested(path):
            raise UserError(
                f"{describe(left)} may still be at work in this folder, which cannot be tested from "
                f"{socket.gethostname()}: if it has ended, delete {SNAKEMAKE} and {RUN}, and start again"
            )


def at_work() -> dict[str, Any] | None:
    """Return the note of the run at work in this folder, or None: what, host, started and, once jobs start, params."""
    for path in (SNAKEMAKE, RUN):
        if is_held(path):
            return read_note(path) or {"what": "snakemake"}
    return None


def clear_stale_locks() -> str | None:
    """Remove Snakemake's own lock files and return a line that says so, or None; for those who hold the project."""
    if not STALE.is_dir() or not any(STALE.iterdir()):
        return None
    try:
        shutil.rmtree(STALE)
    except OSError as error:
        raise writing_failed(STALE, error) from error
    return "the locks of a Snakemake that was killed are removed"


def found_damaged(since: float) -> bool:
    """Whether a job found something damaged since a time, in seconds: the next start makes it again."""
    found = (path for folder in (DATA, WORK, RUNS) for path in folder.rglob(f"{DAMAGED}*.json"))
    return any(path.stat().st_ctime >= since for path in found)


def group_at_work(note: Mapping[str, Any]) -> int | None:
    """Return the process group of a Snakemake that ``internal-kd run`` has started; None if it cannot be reached.

    The number in its note counts only if that process has the lock's file open.
    """
    import psutil

    group = note.get("group")
    if note.get("what") != "internal-kd run" or not isinstance(group, int):
        return None
    with suppress(psutil.Error, OSError, ValueError, OverflowError):
        if any(Path(file.path) == SNAKEMAKE.resolve() for file in psutil.Process(group).open_files()):
            return group
    return None


def _inherited() -> Hold | None:
    """Return the lock as ``internal-kd run`` has handed it down, or None; the jobs do not get it."""
    with suppress(OSError, ValueError, OverflowError):
        descriptor = int(os.environ[INHERITED]) if INHERITED in os.environ else -1
        if os.path.samestat(os.fstat(descriptor), SNAKEMAKE.stat()):
            os.set_inheritable(descriptor, False)
            return Hold(SNAKEMAKE, descriptor)
    return None
