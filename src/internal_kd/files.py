"""Files that are either complete or absent: everything is written next to its place and renamed into it."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError

TO_UTF8 = "convert it from what it was saved in, often iconv -f windows-1252 -t utf-8"
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


def check_json_lines(path: Path) -> None:
    """Refuse a name under which nobody would look for JSON Lines.

    Raises:
        UserError: it does not end in .jsonl.
    """
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: JSON Lines are written; give a name that ends in .jsonl")


def write_json_lines(path: Path, lines: Iterable[Any]) -> int:
    """Write one JSON value per line, completely or not at all, and return their number."""
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_text(path: Path | str, way_out: str = TO_UTF8) -> str:
    """Read a text file; ``way_out`` ends the error line if it is not UTF-8.

    Raises:
        UserError: the file is missing, cannot be read or is not UTF-8.
    """
    path = Path(path)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): {way_out}") from None


def read_json(path: Path | str, way_out: str = "delete it and run again") -> Any:
    """Read a JSON file; ``way_out`` ends the error line, for files that are not ours to delete.

    Raises:
        UserError: the file is missing, cannot be read or is truncated.
    """
    text = read_text(path, way_out)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is truncated or not JSON ({error}): {way_out}") from None


def read_mapping(path: Path | str, way_out: str = "delete it and run again") -> dict[str, Any]:
    """Read a JSON file that contains an object; arguments and errors as ``read_json``; another value is refused."""
    value = read_json(path, way_out)
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: {way_out}")
    return value


def files_in(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted; hidden ones, as desktops leave them, do not count."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_hidden(path.relative_to(folder)))


def is_hidden(path: Path) -> bool:
    """Whether a relative path is that of a hidden file, or of one in a hidden folder."""
    return any(part.startswith(".") for part in path.parts)
