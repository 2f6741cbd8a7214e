"""What is finished: reading records, and finding what is missing, incomplete or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from internal_kd.checksums import DAMAGED, is_intact, missing, problem_with_file, verified
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.plan.artefacts import Artefact
from internal_kd.plan.runs import Run

# Weights may be left out (machine.keep_models, a partial pull) without making a run look missing.
OPTIONAL_PREFIX = "model/"
WEIGHTS = "model/model.safetensors"
# A scout's logits on the training set after every epoch.
TRAINING_PREDICTIONS = "predictions_train.parquet"
# The problem of an artefact whose damage a reader found (``refuse_damaged``).
FOUND_DAMAGED = "a file was found damaged"


def read_record(run: Run) -> dict[str, Any]:
    """Return a run's ``run.json``.

    Raises:
        UserError: it is missing, truncated or not a JSON object.
    """
    return read_mapping(run.marker)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a ``history.jsonl``, or of a training's progress; a line that cannot be read ends them."""
    epochs: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if not (isinstance(line, dict) and isinstance(line.get("epoch"), int)):
                break
            epochs.append(line)
    return epochs


def problem_with(artefact: Artefact) -> str | None:
    """Return None for a complete artefact, "missing" if there is none, or what is wrong with it.

    Files are compared by size, which costs one ``stat`` each; those of a run by content too if they changed after its
    record was written. Weights may be missing. Whatever is read is compared by content then (``verified``).
    """
    try:
        written = artefact.marker.stat().st_ctime_ns
    except OSError:
        damaged = artefact.folder / f"{DAMAGED}{artefact.marker.name}"
        return FOUND_DAMAGED if damaged.is_file() else "missing"
    try:
        record = read_mapping(artefact.marker)
    except UserError:
        return f"{artefact.marker.name} is truncated"
    if record.get("fingerprint") != artefact.fingerprint:
        return f"{artefact.marker.name} belongs to another fingerprint"
    files = record.get("files")
    if not isinstance(files, dict):
        return f"{artefact.marker.name} is truncated"
    if not is_intact(record):
        return f"{artefact.marker.name} was damaged or edited"
    if isinstance(artefact, Run) and artefact.scouts and TRAINING_PREDICTIONS not in files:
        return missing(TRAINING_PREDICTIONS)
    for name, expected in files.items():
        optional = name.startswith(OPTIONAL_PREFIX)
        # Weights, token ids and recordings are large: nobody waits for their sums before they are needed.
        since = written if isinstance(artefact, Run) and not optional else None
        problem = problem_with_file(artefact.folder, name, expected, since=since)
        if problem and not (optional and problem == missing(name)):
            return problem
    return None


def is_complete(artefact: Artefact) -> bool:
    """Whether everything that the artefact records is there."""
    return problem_with(artefact) is None


def verified_folder(artefact: Artefact, part: str = "") -> Path:
    """Return a subfolder of an artefact, or all of it, once its files have been compared with their checksums.

    Raises:
        UserError: the record cannot be read.
        Damaged: a file is missing, or is not what was written.
    """
    record = read_mapping(artefact.marker)
    prefix = f"{part}/" if part else ""
    verified(artefact.folder, record, [name for name in record.get("files", {}) if name.startswith(prefix)])
    return artefact.folder / part if part else artefact.folder


def verifier(artefact: Artefact) -> Callable[[Path], None]:
    """Return a function that compares one file of an artefact with its checksum, once per process."""
    record = read_mapping(artefact.marker)

    def verify(path: Path) -> None:
        verified(artefact.folder, record, [path.name])

    return verify
