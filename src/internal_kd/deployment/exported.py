"""What an export was made from and whether it still lies there whole; free of numpy and torch, for the planner asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Raised when the same student would be exported otherwise.
RECIPE = 2
# Its size is not held against it: people add to a card before they publish it.
CARD = "model/README.md"


@dataclass(frozen=True)
class Wish:
    """What is asked for; None leaves it to the scores, or to the shown depth and largest training set."""

    method: str | None = None
    depth: int | None = None
    examples: int | str | None = None


def made_from(scores_key: str, wish: Wish, run: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return all that determines an export, as ``export.json`` keeps it.

    Args:
        scores_key: of the scores it was chosen by.
        wish: what was asked for.
        run: the student's fingerprint.
        without: the packages that were missing for its ONNX files.
    """
    return {
        "recipe": RECIPE,
        "scores_key": scores_key,
        "asked": asdict(wish),
        "run": run,
        "without": list(without),
        "transformers": version("transformers"),
    }


def read_export(path: Path) -> dict[str, Any] | None:
    """Return an ``export.json`` all of whose files are there in their recorded size, None for any other."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        whole = all((path.parent / name).stat().st_size == size for name, size in told["files"].items())
        return told if whole and (path.parent / CARD).is_file() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_best(path: Path, scores_key: str, *, complete: bool = True) -> bool:
    """Whether a whole export is of the student that these scores choose, made as it would be made now.

    ``complete`` says that it must have its ONNX files too.
    """
    told = read_export(path)
    found = told.get("made_from") if told else None
    if not isinstance(found, dict):
        return False
    return found == made_from(
        scores_key, Wish(), str(found.get("run")), [] if complete else list(found.get("without") or [])
    )
