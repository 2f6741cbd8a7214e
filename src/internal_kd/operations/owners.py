"""Who is at work in this folder: one small record per Snakemake, written when it starts and removed when it ends."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from internal_kd.errors import UserError
from internal_kd.files import read_json, write_json
from internal_kd.identity import WORK

OWNERS = WORK / "owners"


@dataclass(frozen=True)
class Owner:
    """A Snakemake process: where it runs, since when, and the configuration it works on.

    ``created`` is the process's start in seconds of the epoch; with the number it tells a process from a later one
    that was given the same number.
    """

    host: str
    pid: int
    created: float
    started: str
    params: str

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether the process is still there; one on another machine counts as alive, for nobody here can tell."""
        return not self.here or is_alive(self.pid, self.created)

    def __str__(self) -> str:
        where = "" if self.here else f" on {self.host}"
        return f"process {self.pid}{where}, started {self.started}"


def is_alive(pid: int, created: float) -> bool:
    """Whether a process of this machine is the one that started at ``created``, and no zombie."""
    import psutil

    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def claim(params: Path) -> None:
    """Record that this process is at work with the configuration ``params``."""
    import psutil

    created = psutil.Process().create_time()
    started = datetime.fromtimestamp(created, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    write_json(_own_record(), asdict(Owner(socket.gethostname(), os.getpid(), created, started, str(params))))


def release() -> None:
    """Remove this process's record."""
    _own_record().unlink(missing_ok=True)


def owners() -> list[Owner]:
    """Return everyone recorded, dead or alive."""
    found = []
    for path in sorted(OWNERS.glob("*.json")):
        try:
            found.append(Owner(**read_json(path)))
        except (UserError, TypeError):
            path.unlink(missing_ok=True)
    return found


def forget_the_dead() -> None:
    """Remove the records of processes that have ended without doing so."""
    for owner in owners():
        if not owner.alive:
            record_of(owner.host, owner.pid).unlink(missing_ok=True)


def record_of(host: str, pid: int) -> Path:
    """``work/owners/<host>-<pid>.json``."""
    return OWNERS / f"{host}-{pid}.json"


def _own_record() -> Path:
    return record_of(socket.gethostname(), os.getpid())
