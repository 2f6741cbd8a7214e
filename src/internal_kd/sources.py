"""What local sources held when they were fetched, so that a clone without them still knows which runs are meant.

The runs on a local data set or encoder are identified by its content. Whoever pulls the fetched copy need not have
the source itself: ``data/tasks/sources.json`` and ``data/encoders/sources.json`` lie beside the copies, travel with
them, and say for every source, by the words of the parameters that name it, what it held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from internal_kd.artefacts import EncoderFiles, TaskData
from internal_kd.errors import UserError
from internal_kd.files import write_json
from internal_kd.identity import DATA
from internal_kd.params.sources import EncoderParams, FilesEntry, GlueEntry
from internal_kd.records import problem_with

TASKS = DATA / "tasks/sources.json"
ENCODERS = DATA / "encoders/sources.json"

# By name in the artefact (a split, a file of the encoder): the file's SHA-256.
Content = dict[str, str]


def name_of_encoder(encoder: EncoderParams) -> str:
    """Return the words that name a local encoder."""
    if encoder.source == "folder":
        return f"folder {encoder.path}"
    return f"package {encoder.package} {encoder.folder}"


def name_of_task(entry: FilesEntry | GlueEntry, glue_folder: Path | None) -> str:
    """Return the words that name a local task: its files, or its folder in the layout of GLUE."""
    if isinstance(entry, FilesEntry):
        return f"files {', '.join(path for path in (entry.train, entry.dev, entry.test) if path)}"
    return f"glue {glue_folder}"


def recall(memory: Path, name: str) -> Content | None:
    """Return what a source held, or None where that is not known."""
    return _read(memory).get(name)


def remember(data: TaskData | EncoderFiles) -> None:
    """Write down what a local source held, once the copy of it is complete."""
    if isinstance(data, EncoderFiles):
        memory, name = ENCODERS, None if data.path is None else name_of_encoder(data.encoder)
    elif isinstance(data.entry, FilesEntry | GlueEntry) and data.files:
        memory, name = TASKS, name_of_task(data.entry, data.files["train"].parent)
    else:
        return
    if name is None or problem_with(data):
        return
    known = _read(memory)
    if known.get(name) != data.content:
        write_json(memory, dict(sorted({**known, name: data.content}.items())))


def check_at_hand(named: str, files: Mapping[str, Path]) -> None:
    """Refuse to fetch from a source that is only remembered.

    Raises:
        UserError: a file is not there.
    """
    for path in files.values():
        if not path.exists():
            raise UserError(
                f"{named}: {path} is not here, and neither is the copy once fetched from it; `dvc pull data` brings "
                "the copy, or put the source there"
            )


def _read(memory: Path) -> dict[str, Content]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
