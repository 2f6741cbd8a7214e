"""Beside DVC: what its stages compare, what it does not know, and which study was started last.

DVC sees parameters and files, but cannot know that a recipe was raised in the code or that a local data file was
edited. So its first stage always runs, and the plan lists there, in ``work/dvc/``, the runs and results that are
meant: a later stage runs if its list differs from the one it was last done with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from internal_kd.files import remove, write_text
from internal_kd.plan.identity import RUNS, WORK
from internal_kd.plan.study import Study
from internal_kd.report.make import outputs
from internal_kd.running.results import recipe_key

LISTS = WORK / "dvc"
STUDIES = WORK / "studies"
LAST = WORK / "last.yaml"
OVERLAYS = Path("config")
DVC_LOCK = Path("dvc.lock")


def write_lists(study: Study) -> None:
    """Write ``work/dvc/{runs,results}.txt`` in a stage of DVC, each only if it changes.

    Elsewhere nothing is written: to DVC these are a stage's outputs, and with lists of another study, which was only
    looked at, it refuses to pull.
    """
    if not _in_a_stage():
        return
    lists = {
        "runs": [str(run.folder) for run in study.runs],
        "results": [recipe_key(study), *(str(path) for paths in outputs(study).values() for path in paths)],
    }
    for name, lines in lists.items():
        _write_if_changed(LISTS / f"{name}.txt", "\n".join(dict.fromkeys(lines)) + "\n")


def is_described(configfiles: Sequence[str | Path], values: bool) -> bool:
    """Whether params.yaml alone, or with one overlay of ``config/``, describes a study: what `internal-kd gc` plans.

    ``configfiles`` are those given to Snakemake; ``values`` says that some were given on the command line.
    """
    if values or len(configfiles) > 1:
        return False
    known = {path.resolve() for path in (Path("params.yaml"), *OVERLAYS.rglob("*.yaml"))}
    return all(Path(file).resolve() in known for file in configfiles)


def remember_study(study: Study, snapshot: Path, *, described: bool, started: bool) -> None:
    """Keep the parameters of a study that `internal-kd gc` could not know in ``work/studies/<name>.yaml``.

    A study that is only planned, not ``started``, takes no other's place: what that one has trained is still needed.
    Those of the study that was started last are in ``work/last.yaml``, for `internal-kd status`.
    """
    text = snapshot.read_text(encoding="utf-8")
    if started:
        _write_if_changed(LAST, text)
    path = STUDIES / f"{study.name}.yaml"
    if described and started:
        remove(path)
    elif not described and (started or not path.is_file()):
        _write_if_changed(path, text)


def unknown_to_dvc(trained: int) -> str | None:
    """Return a line for people who use DVC when runs were trained without it, or None."""
    if not trained or _in_a_stage() or not DVC_LOCK.is_file():
        return None
    return (
        f"{trained} runs were trained that DVC does not know yet: `dvc repro` adds them. Before that, `dvc exp run` "
        "and `dvc checkout --force` would remove them."
    )


def runs_not_pulled() -> str | None:
    """Return a line if DVC has runs of this project and none of them is here, as in a fresh clone, or None."""
    if RUNS.exists() or not DVC_LOCK.is_file() or f"path: {RUNS}\n" not in DVC_LOCK.read_text(encoding="utf-8"):
        return None
    return f"{DVC_LOCK} lists runs, and {RUNS}/ does not exist: `dvc pull` brings what need not be trained again"


def _write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _in_a_stage() -> bool:
    return "DVC_STAGE" in os.environ
