"""The runs of a study, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from internal_kd.plan.study import Study
from internal_kd.running.status import state_of

COLUMNS = ("fingerprint", "task", "method", "learner", "seed", "teacher", "state", "folder")


def runs_of(study: Study) -> list[dict[str, Any]]:
    """Return every run of a study in an order in which they can be made, as plain values.

    Each has fingerprint, task, method, learner (its shape in short, such as ``L6``), seed, teacher (the fingerprints of
    the runs it listens to), folder and state: ``complete``, ``missing``, ``broken`` or ``running``.
    """
    return [
        {
            "fingerprint": run.fingerprint,
            "task": run.task,
            "method": run.method.name,
            "learner": run.method.learner.short_name,
            "seed": run.seed,
            "teacher": [teacher.fingerprint for teacher in run.teachers],
            "folder": str(run.folder),
            "state": state_of(run),
        }
        for run in study.runs
    ]


def table_of(study: Study) -> str:
    """Return the same as a table for people, teachers by name."""
    named = {run.fingerprint: f"{run.method.name} s{run.seed}" for run in study.runs}
    rows: list[tuple[str, ...]] = [COLUMNS]
    for run in runs_of(study):
        taught_by = ", ".join(named[fingerprint] for fingerprint in run["teacher"]) or "-"
        rows.append(tuple(str(run[column]) if column != "teacher" else taught_by for column in COLUMNS))
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
