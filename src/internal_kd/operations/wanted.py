"""What DVC is told, and what people are told about DVC.

What the study of params.yaml wants is three small lists that DVC watches.

DVC compares parameters and files; it cannot know that a recipe was raised or that one's own data file was edited. Its
first stage always runs, and with it Snakemake, which writes these lists: a later stage has to be looked at when its
list differs from the one it was last done with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from internal_kd.analysis.built import ANALYSIS, outputs_of
from internal_kd.files import remove, write_text
from internal_kd.identity import RUNS, WORK
from internal_kd.study import Study

WANTED = WORK / "wanted"
STUDIES = WORK / "studies"
OVERLAYS = Path("config")
DVC_LOCK = Path("dvc.lock")


def write_wanted(study: Study) -> None:
    """Write ``work/wanted/{teachers,students,results}.txt`` in a stage of DVC, each only where it changes.

    Elsewhere nothing is written: to DVC these are a stage's outputs, and with lists of another study, which was only
    looked at, it refuses to pull.
    """
    if not _in_a_stage():
        return
    lists = {
        "teachers": [str(run.folder) for run in study.teachers],
        "students": [str(run.folder) for run in study.students],
        "results": [f"analysis {ANALYSIS}", *(str(path) for paths in outputs_of(study).values() for path in paths)],
    }
    for name, lines in lists.items():
        path = WANTED / f"{name}.txt"
        text = "\n".join(dict.fromkeys(lines)) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)


def is_described(configfiles: Sequence[str | Path], values: bool) -> bool:
    """Whether params.yaml alone, or with one overlay of ``config/``, describes a study: what `internal-kd gc` plans.

    ``configfiles`` are those given to Snakemake; ``values`` says that some were given on the command line.
    """
    if values or len(configfiles) > 1:
        return False
    known = [Path("params.yaml"), *OVERLAYS.rglob("*.yaml")]
    return all(Path(file).resolve() in [path.resolve() for path in known] for file in configfiles)


def remember_study(study: Study, snapshot: Path, *, described: bool, started: bool) -> None:
    """Keep the parameters of a study that `internal-kd gc` could not know in ``work/studies/<name>.yaml``.

    A study that is only planned, not ``started``, takes no other's place: what was trained for that is still wanted.
    """
    path = STUDIES / f"{study.name}.yaml"
    if described and started:
        remove(path)
    elif not described and (started or not path.is_file()):
        text = snapshot.read_text(encoding="utf-8")
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)


def untracked_runs(trained: int) -> str | None:
    """Return a line for people who use DVC when runs were trained without it, or None."""
    if not trained or _in_a_stage() or not DVC_LOCK.is_file():
        return None
    return (
        f"{trained} runs were trained of which DVC does not know yet: `dvc repro` takes them in. "
        "Before that, `dvc exp run` and `dvc checkout --force` would remove them."
    )


def runs_not_pulled() -> str | None:
    """Return a line where DVC has runs of this project and none of them is here, as in a fresh clone, or None."""
    if RUNS.exists() or not DVC_LOCK.is_file() or f"path: {RUNS}/" not in DVC_LOCK.read_text(encoding="utf-8"):
        return None
    return f"  {DVC_LOCK} speaks of runs, and {RUNS}/ is empty: `dvc pull` brings what need not be trained again"


def _in_a_stage() -> bool:
    return "DVC_STAGE" in os.environ
