"""What the files of an artefact were when they were written, compared with what they are before anybody reads them.

``publish`` records size and SHA-256 of every file; ``verified`` compares both, once per process.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from internal_kd.errors import UserError
from internal_kd.files import files_in, publish_folder, write_json


class Damaged(UserError):
    """A file of ours that is not what was written: its artefact has to be made again."""

    def __init__(self, folder: Path, problem: str) -> None:
        """Take the folder and what is wrong in it."""
        super().__init__(f"{folder}: {problem}; run again and it is made again, or `dvc pull` it first")
        self.folder, self.problem = folder, problem


# What marks an artefact as complete, and how the marker of one that was found damaged begins.
MARKERS = ("manifest.json", "run.json")
DAMAGED = "damaged-"


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


def verified(folder: Path, record: Mapping[str, Any], names: Iterable[str] | None = None) -> None:
    """Compare files with size and SHA-256 in their record before they are used, each once per process.

    A damaged artefact no longer counts as complete from then on, so that the next start makes it again.

    Args:
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


def _record_sha256(record: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in record.items() if key != "record_sha256"}
    return sha256_text(json.dumps(rest, sort_keys=True, ensure_ascii=False))


def problem_with_file(folder: Path, name: str, expected: Any, *, since: int | None = 0) -> str | None:
    """Compare one file with its entry in a record.

    Args:
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


def missing(name: str) -> str:
    """Return the problem of a file that is not there."""
    return f"{name} is missing"


def check_unchanged(path: Path, sha256: str) -> None:
    """Refuse a user's file or folder that is another one than when the study was planned.

    Raises:
        UserError: its SHA-256 is another.
    """
    if sha256_once(path) != sha256:
        raise UserError(f"{path} changed since the study was planned; start again")


def describe_files(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return ``{name: {"bytes": n, "sha256": hex}}`` for files of a folder, names relative to it."""
    return {n: {"bytes": (folder / n).stat().st_size, "sha256": sha256_file(folder / n)} for n in sorted(names)}


def sha256_text(text: str) -> str:
    """Return the hexadecimal SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


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
