"""Where exports lie, and whether one is complete and what would be made now. Planning asks it: no torch.

results/<study>/export/<task>/model/       what plain transformers opens, with README.md, the model card
                              onnx/        model.onnx, model-int8.onnx
                              submission/  GLUE's files, for its tasks
                              params.yaml  the study's parameters
                              export.json  what it was made from, its files, and all numbers; written last
results/<study>/export/submission.zip      all of GLUE's files
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from internal_kd.checksums import problem_with_file
from internal_kd.errors import UserError
from internal_kd.export.choice import BEST, Choice, Request, Undefined, choose
from internal_kd.files import read_mapping
from internal_kd.plan.identity import plain
from internal_kd.plan.study import Study

# Raised when the same run would be exported in another way.
RECIPE = 3
MARKER = "export.json"
# Its content is not compared: people add to a card before they publish it.
CARD = "model/README.md"
# What decides the bytes of an export beside the run; None for one that is not installed.
PACKAGES = ("transformers", "onnx", "onnxruntime")


def export_folder(study: Study) -> Path:
    """Return ``results/<study>/export``."""
    return study.folder / "export"


def export_path(study: Study, task: str) -> Path:
    """Return a task's ``export.json``."""
    return export_folder(study) / task / MARKER


def check_place(folder: Path) -> None:
    """Refuse a place for an export that is a file, or that has other files, which would be removed, by UserError."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--to: {there} is not a folder; name another")
    files = read_mapping(folder / MARKER).get("files") if (folder / MARKER).is_file() else None
    own = {MARKER, *(files if isinstance(files, Mapping) else ())}
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if other := next((name for name in found if name not in own), None):
        raise UserError(f"--to: {folder} has other files, such as {other}; name a new folder, or empty it")


def made_from(study: Study, choice: Choice, request: Request = BEST) -> dict[str, Any]:
    """Return all that determines an export, as ``export.json`` records it."""
    data, encoder = study.tasks[choice.run.task].data, choice.run.encoder
    return plain(
        {
            "recipe": RECIPE,
            "asked": asdict(request),
            "run": choice.run.fingerprint,
            "rule": choice.rule,
            "rows": [asdict(candidate) for candidate in choice.candidates],
            "seeds": {str(seed): value for seed, value in choice.values.items()},
            "licences": [encoder.encoder.licence if encoder else None, getattr(data.entry, "licence", None)],
            "packages": {name: _version(name) for name in PACKAGES},
        }
    )


def not_made(problem: str) -> dict[str, Any]:
    """Return the same for a task whose rows cannot be ranked."""
    return {"recipe": RECIPE, "problem": problem}


def read_export(path: Path) -> dict[str, Any] | None:
    """Return an ``export.json`` whose files are all there in their recorded size, None for any other."""
    try:
        found = read_mapping(path)
    except UserError:
        return None
    files = found.get("files")
    if not isinstance(found.get("made_from"), Mapping) or not isinstance(files, Mapping):
        return None
    if any(problem_with_file(path.parent, name, entry, since=None) for name, entry in files.items() if name != CARD):
        return None
    return found if CARD not in files or (path.parent / CARD).is_file() else None


def is_current(study: Study, task: str, *, or_other_packages: bool = False) -> bool:
    """Whether a task's export is complete and of the run that would be exported now, made as it would be made now.

    With ``or_other_packages`` it may have been made by other versions, or without ONNX files.
    """
    found, current = read_export(export_path(study, task)), _would_be_made_from(study, task)
    if found is None or current is None:
        return False
    ignored = {"packages"} if or_other_packages else set()
    return all(found["made_from"].get(key) == current.get(key) for key in {*found["made_from"], *current} - ignored)


def _would_be_made_from(study: Study, task: str) -> dict[str, Any] | None:
    from internal_kd.data.examples import read_task

    try:
        info = read_task(study.tasks[task].data).info
        return made_from(study, choose(study, task, info))
    except Undefined as problem:
        return not_made(str(problem))
    except UserError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
