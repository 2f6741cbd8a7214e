"""Downloads from the Hugging Face hub at a pinned revision, checked, and one line for whatever goes wrong.

``huggingface_hub`` retries a server that is not there for 23 seconds, and one that drops packets for minutes; so the
hub is knocked at first, with a short limit. Without an answer only its local cache is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from internal_kd.errors import UserError

ANSWER_WITHIN_SECONDS = 10.0


@dataclass(frozen=True)
class Wanted:
    """Some files of a hub repository at a pinned commit. ``way_out`` ends the line when they cannot be had."""

    kind: str
    repository: str
    revision: str
    patterns: tuple[str, ...]
    way_out: str
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'data set' if self.kind == 'dataset' else 'model'} {self.repository} at {self.revision}"


def download(wanted: Wanted) -> dict[str, Path]:
    """Download files, or take them from the hub's local cache, and check them against their names in that cache.

    Returns:
        ``{path inside the repository: path of the file}``.

    Raises:
        UserError: no network, no such repository, revision or file, or a file that is not what the hub says it is.
    """
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable = _unreachable()
    try:
        folder = snapshot_download(
            wanted.repository,
            repo_type=wanted.kind,
            revision=wanted.revision,
            allow_patterns=list(wanted.patterns),
            ignore_patterns=list(wanted.ignored),
            local_files_only=unreachable is not None,
        )
    except RevisionNotFoundError:
        raise UserError(f"{wanted}: the hub has no such revision; take a commit of its history") from None
    except GatedRepoError:
        raise UserError(f"{wanted}: access must be granted on the hub first; then set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(f"{wanted}: the hub has no such repository (or it is private: set HF_TOKEN)") from None
    except LocalEntryNotFoundError as error:
        reason = unreachable or f"the hub gave no usable answer: {_first_line(error)}"
        raise UserError(f"{wanted} cannot be downloaded ({reason}); {wanted.way_out}") from None
    except HfHubHTTPError as error:
        raise UserError(f"{wanted} cannot be downloaded ({_first_line(error)}); {wanted.way_out}") from None
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        raise UserError(
            f"{wanted}: the download broke off ({_first_line(error)}); start again, or {wanted.way_out}"
        ) from None
    found = {str(path.relative_to(folder)): path for path in _wanted_files(Path(folder), wanted)}
    for path in found.values():
        _check_content(path, wanted)
    return found


def _unreachable() -> str | None:
    """Return why the hub cannot be reached, or None when it answers (with whatever status)."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set and the local cache does not hold it"
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_WITHIN_SECONDS)
    except httpx2.HTTPError as error:
        return f"{constants.ENDPOINT} does not answer: {_first_line(error)}"
    return None


def _wanted_files(folder: Path, wanted: Wanted) -> Iterable[Path]:
    from huggingface_hub.utils import filter_repo_objects

    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    chosen = filter_repo_objects(names, allow_patterns=list(wanted.patterns), ignore_patterns=list(wanted.ignored))
    return [folder / name for name in chosen]


def _check_content(path: Path, wanted: Wanted) -> None:
    """Compare a file with its name in the hub's cache: its SHA-256, or git's SHA-1 for a small file."""
    blob = path.resolve()
    expected = blob.name
    if len(expected) not in (40, 64) or set(expected) - set("0123456789abcdef"):
        return  # a cache on a file system without symbolic links names files otherwise
    if len(expected) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    with blob.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        # Under that name nobody can want these bytes; without them the next start downloads the file anew.
        with suppress(OSError):
            blob.unlink()
            path.unlink()
        raise UserError(
            f"{wanted}: {path.name} has not the hub's checksum {expected} but {digest.hexdigest()}; start again, and "
            f"if it stays so, {wanted.way_out}"
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0].strip().rstrip(".") if lines else type(error).__name__)[:200]
