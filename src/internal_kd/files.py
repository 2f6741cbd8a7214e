"""Files that are either complete or absent, and compared with their recorded checksums before they are used.

Everything is written next to its place and renamed into it. What was written is recorded with size and SHA-256, and
``verified`` compares both, once per process, before anybody reads the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from internal_kd.errors import UserError


class Damaged(UserError):
    """A file of ours that is not what was written: its artefact has to be made again.

    Attributes:
        folder: the artefact's folder.
        problem: what is wrong in it.
    """

    def __init__(self, folder: Path, problem: str) -> None:
        """Take the folder and what is wrong in it."""
        super().__init__(f"{folder}: {problem}; run again and it is made again, or `dvc pull` it first")
        self.folder, self.problem = folder, problem


# What marks an artefact as complete, and how the marker of one that was found damaged begins.
MARKERS = ("manifest.json", "run.json")
DAMAGED = "damaged-"

# What replacing and staging_folder call what they write first.
_TEMPORARY = re.compile(r"^\.(.+)\.\d+\.[0-9a-f]{6}\.tmp$")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is renamed to ``path``, on any error removed.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise writing_failed(path, error) from error
    finally:
        # On a read-only disk this fails even where there is nothing to remove, and would hide the error that counts.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def staging_folder(beside: Path | str) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``beside``; it is removed afterwards, whatever happened."""
    beside = Path(beside)
    folder = beside.with_name(f".{beside.name}.{os.getpid()}.{secrets.token_hex(3)}.tmp")
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise writing_failed(beside, error) from error
    except Exception as error:
        # safetensors and Arrow report a full disk by errors of their own, with the system's words inside.
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
            if os.strerror(number) in str(error):
                raise writing_failed(beside, OSError(number, os.strerror(number))) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to start writing ``needed`` bytes that the disk cannot hold: a memory map would die half-way.

    Raises:
        UserError: the disk of ``folder`` has less space left, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise writing_failed(folder, error) from error
    if needed > free:
        raise UserError(f"{what} take {needed / 1e9:.2f} GB, but the disk of {folder} has {free / 1e9:.2f} GB left")


def publish(staged: Path, target: Path, record: Mapping[str, Any], marker: str = "manifest.json") -> None:
    """Publish a staged folder with a record of its files.

    The marker has ``record``, as ``files`` size and SHA-256 of all other files, and as ``record_sha256`` a hash over
    itself, so that ``verified`` finds a changed record too.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    names = [str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()]
    complete = {**record, "files": describe_files(staged, names)}
    write_json(staged / marker, {**complete, "record_sha256": _record_sha256(complete)})
    publish_folder(staged, target, last=marker)


def _record_sha256(record: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in record.items() if key != "record_sha256"}
    return sha256_text(json.dumps(rest, sort_keys=True, ensure_ascii=False))


def publish_folder(staged: Path, target: Path, last: str) -> None:
    """Move the files of ``staged`` into ``target``, the file named ``last`` at the end.

    ``last`` is the marker of a complete folder, so a reader that finds it finds everything. The target may exist
    already (Snakemake makes the folders of declared outputs before a job starts). Every file becomes as readable as
    the umask allows: safetensors writes files that only their owner can read.
    """
    _open_to_others(staged)
    files = sorted(path.relative_to(staged) for path in staged.rglob("*") if path.is_file())
    (target / last).unlink(missing_ok=True)
    # What an earlier attempt left, with other contents, must not be taken for a part of this one.
    for left in [path for path in target.rglob("*") if path.is_file() and path.relative_to(target) not in files]:
        left.unlink()
    for relative in [*(f for f in files if str(f) != last), Path(last)]:
        destination = target / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        _sync(staged / relative)
        (staged / relative).replace(destination)


def replace_folder(staged: Path, target: Path) -> None:
    """Rename ``staged`` to ``target``, the folder in one piece: what has the name survives a power failure."""
    _open_to_others(staged)
    for path in (*(path for path in staged.rglob("*") if path.is_file()), staged):
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    _sync(target.parent)


def _open_to_others(folder: Path) -> None:
    # The folder itself was made with the umask; asking for the umask would mean changing it for all threads.
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o666 != mode:
            path.chmod(mode)


def _sync(path: Path) -> None:
    """Have the disk hold a file's bytes, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network disks take no such order for folders.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file that may be missing.

    Raises:
        UserError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        # A read-only disk refuses before it looks: where nothing is, nothing is to be removed.
        if os.path.lexists(path):
            raise writing_failed(path, error) from error


def writing_failed(path: Path, error: OSError) -> UserError:
    """Turn an OSError met while writing into one line with the way out, naming the final place."""
    path = Path(*(_TEMPORARY.sub(r"\1", part) for part in path.parts))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk is full: {path} could not be written; free some space and start again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{path} cannot be written ({error.strerror}): make its folder writable and start again")
    return UserError(f"{path} could not be written: {error}")


def write_text(path: Path | str, text: str) -> None:
    """Write text as UTF-8, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write indented JSON with a final newline; NaN is refused because other readers refuse it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str, way_out: str = "delete it and run again") -> Any:
    """Read a JSON file; ``way_out`` ends the error line, for files that are not ours to delete.

    Raises:
        UserError: the file is missing, cannot be read or is truncated.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is truncated or not JSON ({error}): {way_out}") from None


def read_mapping(path: Path | str, way_out: str = "delete it and run again") -> dict[str, Any]:
    """Read a JSON file that contains an object; arguments and errors as ``read_json``; another value is refused."""
    value = read_json(path, way_out)
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: {way_out}")
    return value


def sha256_text(text: str) -> str:
    """Return the hexadecimal SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def describe_files(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return ``{name: {"bytes": n, "sha256": hex}}`` for files of a folder, names relative to it."""
    return {n: {"bytes": (folder / n).stat().st_size, "sha256": sha256_file(folder / n)} for n in sorted(names)}


def files_in(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted; hidden ones, as desktops leave them, do not count."""
    return sorted(path for path in folder.rglob("[!.]*") if path.is_file())


def sha256_folder(folder: Path) -> str:
    """Return one SHA-256 of all files below a folder, names and content."""
    return sha256_text("\n".join(f"{file.relative_to(folder)}|{sha256_file(file)}" for file in files_in(folder)))


def signature(path: Path) -> str:
    """Return what tells a file or folder from another, or from an edited one, without reading it.

    Size and modification time are not enough: ``cp -p``, ``rsync -t`` and archives set the time. The inode changes when
    another file takes the place, and the time of the last change of the inode (ctime) cannot be set by anybody.
    """
    if path.is_dir():
        return sha256_text("\n".join(f"{file.relative_to(path)}|{signature(file)}" for file in files_in(path)))
    found = path.stat()
    return f"{found.st_dev}|{found.st_ino}|{found.st_size}|{found.st_mtime_ns}|{found.st_ctime_ns}"


# What this process has hashed already: path and signature -> SHA-256.
_hashed: dict[tuple[str, str], str] = {}


def sha256_once(path: Path) -> str:
    """Return a file's or a folder's SHA-256, computed once per process as long as nothing in it is changed."""
    key = str(path.absolute()), signature(path)
    if key not in _hashed:
        _hashed[key] = sha256_folder(path) if path.is_dir() else sha256_file(path)
    return _hashed[key]


def check_unchanged(path: Path, sha256: str) -> None:
    """Refuse a user's file or folder that is another one than when the study was planned.

    Raises:
        UserError: its SHA-256 is another.
    """
    if sha256_once(path) != sha256:
        raise UserError(f"{path} changed since the study was planned; start again")


def problem_with_file(folder: Path, name: str, expected: Any, *, since: int | None = 0) -> str | None:
    """Compare one file with its entry in a record.

    Args:
        folder: the artefact's folder.
        name: the file's path in it.
        expected: ``{"bytes": n, "sha256": hex}``.
        since: compare the SHA-256 too if the file changed since this time, in nanoseconds; None: never.

    Returns:
        None for a file that is as recorded, ``"<name> is missing"``, or what else is wrong with it.
    """
    if not isinstance(expected, Mapping):
        return f"the record of {name} is damaged"
    path = folder / name
    try:
        found = path.stat()
    except (OSError, ValueError):  # a name that no file can have is a ValueError
        return missing(name)
    if not stat.S_ISREG(found.st_mode):
        return f"{name} is not a file"
    if found.st_size != expected.get("bytes"):
        return f"{name} has {found.st_size} bytes instead of {expected.get('bytes')}"
    if since is not None and found.st_ctime_ns >= since and sha256_once(path) != expected.get("sha256"):
        return f"{name} differs from its recorded SHA-256: it was damaged or edited"
    return None


def verified(folder: Path, record: Mapping[str, Any], names: Iterable[str] | None = None) -> None:
    """Compare files with size and SHA-256 in their record before they are used, each once per process.

    A damaged artefact no longer counts as complete from then on, so that the next start makes it again.

    Args:
        folder: the artefact's folder.
        record: its manifest.json or run.json.
        names: the files that are about to be read; all that are recorded if None.

    Raises:
        Damaged: a file is missing, or another one than was recorded, or the record itself was changed.
    """
    if not is_intact(record):
        refuse_damaged(folder, "its record was damaged or edited")
    files = record.get("files")
    if not isinstance(files, Mapping):
        refuse_damaged(folder, "its record lists no files")
    for name in files if names is None else names:
        if problem := problem_with_file(folder, name, files.get(name)):
            if problem == missing(name):
                raise Damaged(folder, problem)  # perhaps never kept: the rest of the artefact may be complete
            refuse_damaged(folder, problem)


def refuse_damaged(folder: Path, problem: str) -> NoReturn:
    """Let a damaged artefact no longer count as complete, and raise ``Damaged``."""
    for name in MARKERS:
        with suppress(OSError):  # there is one of the two, and a disk that is read-only still has a damaged file
            (folder / name).replace(folder / f"{DAMAGED}{name}")
    raise Damaged(folder, problem)


def is_intact(record: Mapping[str, Any]) -> bool:
    """Whether a record is as ``publish`` wrote it; one without a sum of its own counts as such."""
    return "record_sha256" not in record or record["record_sha256"] == _record_sha256(record)


def missing(name: str) -> str:
    """Return the problem of a file that is not there."""
    return f"{name} is missing"
