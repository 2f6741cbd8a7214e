"""What is finished: reading a run's ``run.json`` and finding what is missing, incomplete or damaged."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.files import read_mapping, sha256_file
from internal_kd.plan.artefacts import Artefact, Run

# Weights may be left out (machine.keep_models, a partial pull) without making a run look missing.
OPTIONAL_PREFIX = "model/"
WEIGHTS = "model/model.safetensors"


def read_record(run: Run) -> dict[str, Any]:
    """Return a run's ``run.json``.

    Raises:
        UserError: it is missing, truncated or not a JSON object.
    """
    return read_mapping(run.marker)


def problem_with(artefact: Artefact, *, checksums: bool = False) -> str | None:
    """Return None for a complete artefact, "missing" where there is none, or what is broken about it.

    Files are compared by size, which catches what was truncated and costs one ``stat`` each; with ``checksums`` by
    content too, which is what a table asks before it believes a run.
    """
    if not artefact.marker.exists():
        return "missing"
    try:
        record = read_mapping(artefact.marker)
    except UserError:
        return f"{artefact.marker.name} is truncated"
    if record.get("fingerprint") != artefact.fingerprint:
        return f"{artefact.marker.name} belongs to another run"
    files = record.get("files")
    if not isinstance(files, dict):
        return f"{artefact.marker.name} is truncated"
    for name, expected in files.items():
        if not isinstance(expected, dict):
            return f"{artefact.marker.name} is truncated"
        if problem := _problem_with_file(artefact.folder / name, name, expected, checksums):
            return problem
    return None


def _problem_with_file(path: Path, name: str, expected: dict[str, Any], checksums: bool) -> str | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # a name no file can have is a ValueError
        return None if name.startswith(OPTIONAL_PREFIX) else f"{name} is missing"
    if not stat.S_ISREG(found.st_mode):
        return f"{name} is not a file"
    if found.st_size != expected.get("bytes"):
        return f"{name} has {found.st_size} bytes instead of {expected.get('bytes')}"
    # No table is made of weights: what a size says of them is enough.
    if checksums and not name.startswith(OPTIONAL_PREFIX) and sha256_file(path) != expected.get("sha256"):
        return f"{name} does not have its recorded checksum"
    return None


def is_complete(artefact: Artefact) -> bool:
    """Whether everything the artefact promises is there."""
    return problem_with(artefact) is None
