"""Who is at work in this folder: one small record per Snakemake, written when it starts and removed when it ends."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import PositiveInt, TypeAdapter, ValidationError

from internal_kd.errors import UserError
from internal_kd.files import read_mapping, remove, write_json
from internal_kd.identity import WORK
from internal_kd.processes import is_alive, start_of

OWNERS = WORK / "owners"


@dataclass(frozen=True)
class Owner:
    """A Snakemake process: where it runs, since when, and the configuration it works on.

    ``process`` tells it from a later one that was given the same number (``processes.start_of``).
    """

    host: str
    pid: PositiveInt
    process: str
    started: str
    params: str

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether the process is still there; one on another machine counts as alive, for nobody here can tell."""
        return not self.here or is_alive(self.pid, self.process)

    def __str__(self) -> str:
        where = "" if self.here else f" on {self.host}"
        return f"process {self.pid}{where}, started {self.started}"


RECORD = TypeAdapter(Owner)


def claim(params: Path) -> None:
    """Record that this process is at work with the configuration ``params``."""
    import psutil

    process = str(start_of(os.getpid()))
    created = datetime.fromtimestamp(psutil.Process().create_time(), UTC).astimezone()
    owner = Owner(socket.gethostname(), os.getpid(), process, f"{created:%Y-%m-%d %H:%M:%S}", str(params))
    write_json(_own_record(), asdict(owner))


def release() -> None:
    """Remove this process's record."""
    remove(_own_record())


def owners() -> list[Owner]:
    """Return everyone recorded, dead or alive."""
    return [owner for owner in _records().values() if owner]


def forget_the_dead() -> None:
    """Remove the records of processes that have ended without doing so, and what is no record."""
    for path, owner in _records().items():
        if owner is None or not owner.alive:
            remove(path)


def forget_those_elsewhere() -> None:
    """Remove the records of other machines: for people who say that what worked from there has ended."""
    for path, owner in _records().items():
        if owner and not owner.here:
            remove(path)


def _records() -> dict[Path, Owner | None]:
    found: dict[Path, Owner | None] = {}
    for path in sorted(OWNERS.glob("*.json")):
        try:
            found[path] = RECORD.validate_python(read_mapping(path))
        except (UserError, ValidationError):
            found[path] = None
    return found


def record_of(host: str, pid: int) -> Path:
    """``work/owners/<host>-<pid>.json``."""
    return OWNERS / f"{host}-{pid}.json"


def _own_record() -> Path:
    return record_of(socket.gethostname(), os.getpid())
