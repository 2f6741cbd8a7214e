"""Identity: everything expensive lies under a path that ends in the fingerprint of what determines it.

A fingerprint is a hash over the step's name and RECIPE version, its resolved parameters and the fingerprints of its
inputs. It is known before anything runs, so "is it up to date?" is "does it exist?". Hub sources count by id and
pinned revision, local ones by content, never by where they lie.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from internal_kd.checksums import sha256_file, sha256_folder, sha256_text, signature
from internal_kd.errors import UserError
from internal_kd.files import read_mapping, write_text

FINGERPRINT_LENGTH = 12
FINGERPRINT_PATTERN = f"[0-9a-f]{{{FINGERPRINT_LENGTH}}}"

DATA = Path("data")
RUNS = Path("results/runs")
RESULTS = Path("results")
PAPERS = Path("papers")
WORK = Path("work")


def plain(value: Any) -> Any:
    """Return parameters as plain JSON values: models become mappings, tuples lists."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def fingerprint(step: str, recipe: int, params: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 over a step and all that determines its result."""
    identity = {"step": step, "recipe": recipe, "params": plain(params), "inputs": dict(inputs)}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256_text(text)[:FINGERPRINT_LENGTH]


class ContentHashes:
    """SHA-256 of local files, remembered by path, size, times and inode so that planning stays quick."""

    def __init__(self, cache: Path = WORK / "hashes.json") -> None:
        """Read the cache; one that cannot be read, or that was changed, counts as empty."""
        self._cache = cache
        self._known: dict[str, str] = {}
        with suppress(UserError):
            kept = read_mapping(cache)
            if isinstance(kept.get("files"), dict) and kept.get("sha256") == _sum(kept["files"]):
                self._known = kept["files"]

    def of_file(self, path: Path, named: str) -> str:
        """Return a file's SHA-256; ``named`` is the parameter that led here, for the error line."""
        if path.exists() and not path.is_file():
            raise UserError(f"{named}: {path} is not a file; give the path of a file")
        return self.of_path(path, named)

    def of_path(self, path: Path, named: str) -> str:
        """Return a file's SHA-256, or that of all files below a folder."""
        if not path.exists():
            raise UserError(f"{named}: {path} does not exist; give the path of an existing file")
        key = f"{path.resolve()}|{sha256_text(signature(path)) if path.is_dir() else signature(path)}"
        if key not in self._known:
            self._known[key] = sha256_folder(path) if path.is_dir() else sha256_file(path)
            self._save()
        return self._known[key]

    def of_files(self, paths: Iterable[Path], base: Path, named: str) -> dict[str, str]:
        """Return ``{path relative to base: sha256}``."""
        return {str(path.relative_to(base)): self.of_file(path, named) for path in sorted(paths)}

    def _save(self) -> None:
        with suppress(UserError):  # a cache that cannot be kept only costs time
            write_text(self._cache, json.dumps({"files": self._known, "sha256": _sum(self._known)}, indent=0))


def _sum(known: Mapping[str, str]) -> str:
    # One wrong digit would make every run of a study another one.
    return sha256_text(json.dumps(known, sort_keys=True))
