"""Who is at work: alive means "holds its lock".

A process that works on something holds an exclusive lock on a small file for as long as it lives. The kernel frees the
lock when the process ends, however it ends, and asks for no process number, namespace, boot or clock. The file's text
is for people: it names the host, the start and whatever the holder adds. On a network disk this is as good as the
disk's locks: where they do not reach other machines, or there are none, only that text is left (``untested``).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.files import writing_failed

# Disks that one machine has for itself, whatever the containers on it are called; any other kind may be shared.
OF_ONE_MACHINE = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "apfs", "hfs")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class InUse(UserError):
    """Somebody holds the lock; ``note`` is what the holder wrote about itself."""

    def __init__(self, path: Path, note: Mapping[str, Any]) -> None:
        """Take the lock's file and its note."""
        super().__init__(f"{path} is held by {describe(note)}: wait until that has ended, or end it")
        self.note = dict(note)


@dataclass(frozen=True)
class Hold:
    """A lock that this process holds. A child that inherits ``descriptor`` goes on holding it when this process ends.

    ``locked`` is False where the disk has no locks: nothing then keeps others away.
    """

    path: Path
    descriptor: int
    locked: bool = True

    def write(self, note: Mapping[str, Any]) -> None:
        """Replace the note; host and start are added."""
        started = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
        text = json.dumps({"host": socket.gethostname(), "started": started, **note}, ensure_ascii=False) + "\n"
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, text.encode(), 0)
        except OSError as error:
            raise writing_failed(self.path, error) from error

    def release(self) -> None:
        """Remove the file, then let go: a process that waits finds it gone and makes a new one."""
        if _is_file_of(self.descriptor, self.path):
            with suppress(OSError):
                self.path.unlink()
        os.close(self.descriptor)


@contextmanager
def held(path: Path | str, note: Mapping[str, Any] | None = None) -> Iterator[Hold]:
    """Hold the lock ``path`` during the block, or for as long as this process lives.

    Raises:
        InUse: another process, or another block of this one, holds it.
        UserError: the file cannot be written.

    Example:
        >>> with held("work/locks/4f2a.lock", note={"what": "rte/stacked/seed1"}):
        ...     train()
    """
    hold = take(path, note)
    try:
        yield hold
    finally:
        hold.release()


def take(path: Path | str, note: Mapping[str, Any] | None = None) -> Hold:
    """Take a lock that is held until ``release`` or the end of the process; errors as ``held``."""
    path = Path(path)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A link that somebody else has put here is not followed.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise writing_failed(path, error) from error
        try:
            taken = _take(descriptor)
            # Otherwise its last holder has removed it since it was opened: it is no longer the lock.
            if _is_file_of(descriptor, path):
                if taken is False:
                    raise InUse(path, read_note(path))
                hold = Hold(path, descriptor, locked=taken is True)
                hold.write(note or {})
                return hold
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_held(path: Path | str) -> bool:
    """Whether a process holds the lock, of any user and in any namespace; False if the disk has no locks.

    Raises:
        UserError: the lock's file may not be read.
    """
    return _share(Path(path), fcntl.LOCK_SH | fcntl.LOCK_NB) is False


def wait_for(path: Path | str) -> None:
    """Return as soon as nobody holds the lock; it is not taken. Errors as ``is_held``."""
    _share(Path(path), fcntl.LOCK_SH)


def read_note(path: Path | str) -> dict[str, Any]:
    """Return what the lock's holder, or its last one if that was killed, wrote; empty if there is nothing to read."""
    try:
        note = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def untested(path: Path | str) -> dict[str, Any] | None:
    """Return the note of a holder that may be alive although its lock looks free from here, or None.

    That is one on another machine, on a disk that machines share, or any where the disk has no locks.
    """
    path = Path(path)
    note = read_note(path)
    if not note:
        return None
    free = _share(path, fcntl.LOCK_SH | fcntl.LOCK_NB)
    elsewhere = note.get("host") != socket.gethostname() and _kind_of_disk(path) not in OF_ONE_MACHINE
    return note if free is None or (free and elsewhere) else None


def describe(note: Mapping[str, Any]) -> str:
    """Return a note in words: ``internal-kd run on node7, since 2026-01-01 12:00:00 +0000``."""
    host = note.get("host", "an unknown machine")
    where = "" if host == socket.gethostname() else f" on {host}"
    return f"{note.get('what', 'another process')}{where}, since {note.get('started', 'an unknown time')}"


def _take(descriptor: int) -> bool | None:
    """Take the lock alone; answers as ``_flock``.

    Those who only test it hold it together and for a moment: they are not taken for holders.
    """
    while True:
        taken = _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if taken is not False or not _flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB):
            return taken
        _flock(descriptor, fcntl.LOCK_UN)
        time.sleep(0.001)


def _share(path: Path, how: int) -> bool | None:
    """Hold the lock for a moment, together with all who do the same; answers as ``_flock``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable, or delete it") from error
    try:
        return _flock(descriptor, how)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, how: int) -> bool | None:
    """Return True with the lock, False where somebody else has it, None where the disk has no locks."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except OSError:
        return False


def _kind_of_disk(path: Path) -> str:
    import psutil

    kinds = {disk.mountpoint: disk.fstype for disk in psutil.disk_partitions(all=True)}
    place = path.resolve()
    return next((kinds[str(folder)] for folder in place.parents if str(folder) in kinds), "")
