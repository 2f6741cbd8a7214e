"""Downloads from the Hugging Face hub at a pinned revision, with checksums and one line for whatever goes wrong.

``huggingface_hub`` retries a missing server for 23 seconds, and one that drops packets for minutes. So the hub is asked
for a sign of life first, with a short limit; without an answer only its local cache is used.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from internal_kd.errors import UserError
from internal_kd.params.data import OWN, ImagesEntry
from internal_kd.plan.artefacts import Data
from internal_kd.plan.sources import image_files

ANSWER_WITHIN_SECONDS = 10.0


@dataclass(frozen=True)
class HubFiles:
    """Some files of a hub repository at a pinned commit. ``way_out`` ends the line when they cannot be had."""

    kind: str
    repository: str
    revision: str
    patterns: tuple[str, ...]
    way_out: str
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'data set' if self.kind == 'dataset' else 'model'} {self.repository} at {self.revision}"


def download(requested: HubFiles) -> dict[str, Path]:
    """Download files, or take them from the hub's local cache, and check them against their names in that cache.

    Returns:
        ``{path inside the repository: path of the file}``.

    Raises:
        UserError: no network, no such repository, revision or file, or a file that does not have the hub's checksum.
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
    from huggingface_hub.utils import filter_repo_objects

    unreachable = _unreachable()
    try:
        folder = snapshot_download(
            requested.repository,
            repo_type=requested.kind,
            revision=requested.revision,
            allow_patterns=list(requested.patterns),
            ignore_patterns=list(requested.ignored),
            local_files_only=unreachable is not None,
        )
    except RevisionNotFoundError:
        raise UserError(f"{requested}: the hub has no such revision; take a commit of its history") from None
    except GatedRepoError:
        raise UserError(f"{requested}: access must be granted on the hub first; then set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(f"{requested}: the hub has no such repository (or it is private: set HF_TOKEN)") from None
    except LocalEntryNotFoundError as error:
        reason = unreachable or f"the hub gave no usable answer: {_first_line(error)}"
        raise UserError(f"{requested} cannot be downloaded ({reason}); {requested.way_out}") from None
    except HfHubHTTPError as error:
        raise UserError(f"{requested} cannot be downloaded ({_first_line(error)}); {requested.way_out}") from None
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        raise UserError(
            f"{requested}: the download broke off ({_first_line(error)}); start again, or {requested.way_out}"
        ) from None
    there = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
    chosen = filter_repo_objects(
        there, allow_patterns=list(requested.patterns), ignore_patterns=list(requested.ignored)
    )
    found = {name: Path(folder, name) for name in chosen}
    for path in found.values():
        _check_content(path, requested)
    return found


def files_of_splits(data: Data) -> dict[str, Path]:
    """Return the file of every split of a user's own task, downloaded if they are on the hub; errors as ``download``.

    Example:
        >>> files_of_splits(data)  # doctest: +SKIP
        {'train': PosixPath('data/train.csv'), 'dev': PosixPath('data/dev.csv')}
    """
    if data.hub is None:
        return {split: path for split, path in data.files.items() if split != "unlabelled"}
    assert isinstance(data.entry, OWN)
    named = data.entry.sources
    if isinstance(data.entry, ImagesEntry):
        named = {split: path.as_posix() for split, path in image_files(data.entry).items()}
    requested = HubFiles(
        kind="dataset",
        repository=data.hub.repository,
        revision=data.hub.revision,
        patterns=tuple(named.values()),
        way_out="give local files instead, without `repository`",
    )
    found = download(requested)
    for path in named.values():
        if path not in found:
            raise UserError(f"{requested} has no {path}; give the path of a file in it")
    return {split: found[path] for split, path in named.items()}


def _unreachable() -> str | None:
    """Return why the hub cannot be reached, or None when it answers (with whatever status)."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set and the local cache does not have it"
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_WITHIN_SECONDS)
    except httpx2.HTTPError as error:
        return f"{constants.ENDPOINT} does not answer: {_first_line(error)}"
    return None


def _check_content(path: Path, requested: HubFiles) -> None:
    """Compare a file with its name in the hub's cache: its SHA-256, or git's SHA-1 for a small file."""
    blob = path.resolve()
    expected = blob.name
    if len(expected) not in (40, 64) or set(expected) - set("0123456789abcdef"):
        return  # a cache on a file system without symbolic links names files otherwise
    begun = hashlib.sha256()
    if len(expected) == 40:
        begun = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    with blob.open("rb") as handle:
        found = hashlib.file_digest(handle, lambda: begun).hexdigest()
    if found != expected:
        # These bytes are of no use under that name; without them the next start downloads the file again.
        with suppress(OSError):
            blob.unlink()
            path.unlink()
        raise UserError(
            f"{requested}: {path.name} does not have the hub's checksum {expected} but {found}; start "
            f"again, and if that does not help, {requested.way_out}"
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0].strip().rstrip(".") if lines else type(error).__name__)[:200]
