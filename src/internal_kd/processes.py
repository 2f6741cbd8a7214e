"""Which process is which: a number alone is given again, and the clock may be set while a process runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def start_of(pid: int) -> str | None:
    """Return what tells a living process from all others that have or had its number; None where there is none.

    Where the system says so, the boot and the clock ticks from it to the process's start, which no change of the clock
    moves (proc(5): random/boot_id, stat field 22); elsewhere the time of the start. A zombie counts as gone.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        with suppress(OSError):
            boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
            # The name of the program, in brackets, may hold anything, brackets and spaces too.
            fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return f"{boot} {fields[22 - 3]}"
        return str(process.create_time())
    except (psutil.NoSuchProcess, ValueError):
        return None


def is_alive(pid: int, start: str) -> bool:
    """Whether the process whose ``start_of`` was ``start`` is still there; one that may not be looked at counts."""
    import psutil

    try:
        return start_of(pid) == start
    except psutil.AccessDenied:
        return True
