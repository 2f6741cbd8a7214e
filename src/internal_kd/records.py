"""Records of what is finished: reading a run's ``run.json`` and telling whole runs from broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from internal_kd.artefacts import Artefact, Run
from internal_kd.files import read_json, sha256_file

# Weights may be left out (machine.keep_models, a partial pull) without making a run look missing.
OPTIONAL_PREFIX = "model/"
WEIGHTS = "model/model.safetensors"


def read_record(run: Run) -> dict[str, Any]:
    """Return a run's ``run.json``.

    Raises:
        UserError: it is missing or cut short.
    """
    return read_json(run.marker)


def problem_with(artefact: Artefact, *, checksums: bool = False) -> str | None:
    """Return None for a complete artefact, "missing" where there is none, or what is broken about it.

    Files are compared by size, which catches what was cut short and costs one ``stat`` each; with ``checksums`` by
    content too, which is what a table asks before it believes a run.
    """
    try:
        record = json.loads(artefact.marker.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError):
        return f"{artefact.marker.name} is cut short"
    if not isinstance(record, dict) or record.get("fingerprint") != artefact.fingerprint:
        return f"{artefact.marker.name} belongs to another run"
    for name, expected in record.get("files", {}).items():
        if problem := _problem_with_file(artefact.folder / name, name, expected, checksums):
            return problem
    return None


def _problem_with_file(path: Path, name: str, expected: dict[str, Any], checksums: bool) -> str | None:
    try:
        size = path.stat().st_size
    except OSError:
        return None if name.startswith(OPTIONAL_PREFIX) else f"{name} is missing"
    if size != expected["bytes"]:
        return f"{name} has {size} bytes instead of {expected['bytes']}"
    # No table is made of weights: what a size says of them is enough.
    if checksums and not name.startswith(OPTIONAL_PREFIX) and sha256_file(path) != expected["sha256"]:
        return f"{name} does not have its recorded checksum"
    return None


def is_complete(artefact: Artefact) -> bool:
    """Whether everything the artefact promises is there."""
    return problem_with(artefact) is None
