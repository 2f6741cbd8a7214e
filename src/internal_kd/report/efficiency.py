"""What a student saves against what it loses, and what its training took.

    DS = alpha * size_student / size_teacher + (1 - alpha) * (1 - score_student / score_teacher)

Alkhulaifi, Alsahli and Ahmad 2021, "Knowledge distillation in deep learning and its applications", PeerJ Computer
Science. Lower is better: 0 is a student without size that scores like its teacher, and the teacher itself has alpha.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from internal_kd.report.cells import Cell, counterpart, primary_rows, teacher_of
from internal_kd.report.latency import BATCH, ONE, learner_key
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import Lines

if TYPE_CHECKING:
    import pandas as pd


def distillation_score(size_share: float | None, score_share: float | None, alpha: float) -> float | None:
    """Return DS for a student's size and score as shares of its teacher's; None where one of them is."""
    if size_share is None or score_share is None:
        return None
    return alpha * size_share + (1 - alpha) * (1 - score_share)


def efficiency_lines(results: StudyResults, main: Lines, latency: pd.DataFrame) -> Lines:
    """Return one line per line of the main table.

    Training seconds are the median over finished seeds, missing where they are of several devices.
    """
    alpha = results.study.params.analysis.distillation_alpha
    lines = []
    for (cell, column), line in zip(results.scored_cells(), main, strict=True):
        teacher = teacher_of(cell, results.cells)
        share = line["teacher_share"]
        encoder, total = (_share(results, cell, teacher, name) for name in ("encoder_parameters", "total_parameters"))
        lines.append(
            {
                **cell.columns(), "metric": column.name, "seeds": line["seeds"], "alpha": alpha,
                "encoder_share": encoder, "total_share": total, "teacher_share": share,
                "distillation_score": distillation_score(encoder, share, alpha),
                "training_seconds": _median(results, cell, "seconds"),
                **_steps(results, cell), **_latencies(latency, cell),
            }
        )  # fmt: skip
    return lines


def _share(results: StudyResults, cell: Cell, teacher: Cell | None, name: str) -> float | None:
    sizes = []
    for one in (cell, teacher):
        records = [run.record for run in results.finished(one)] if one else []
        sizes.append(records[0].get(name) if records else None)
    return sizes[0] / sizes[1] if sizes[0] is not None and sizes[1] else None


def _median(results: StudyResults, cell: Cell, name: str) -> float | None:
    """Return a recorded number's median over finished seeds, None where none is finished or they are of two devices."""
    records = [run.record for run in results.finished(cell) if run.record.get(name)]
    if len({str(record.get("device", "unknown")) for record in records}) != 1:
        return None
    return float(median(record[name] for record in records))


def _steps(results: StudyResults, cell: Cell) -> dict[str, Any]:
    """Return how long a step takes, also over one of the study's baseline, and what is recorded of the teacher.

    All stages of a curriculum are counted, so a row that trains on its lower layers alone for a while has short steps.
    """
    seconds = _step_seconds(results, cell)
    baseline = primary_rows(results.study)[1] if cell.is_student else None
    other = counterpart(cell, baseline, results.cells) if baseline else None
    theirs = _step_seconds(results, other) if other and other.method.learner == cell.method.learner else None
    recorded = [run.record.get("recorded_bytes") for run in results.finished(cell)]
    return {
        "step_seconds": seconds,
        "step_share": seconds / theirs if seconds and theirs else None,
        "recorded_bytes": recorded[0] if recorded and cell.is_student else None,
    }


def _step_seconds(results: StudyResults, cell: Cell) -> float | None:
    rate = _median(results, cell, "examples_per_second")
    return cell.method.settings.batch_size / rate if rate else None


def _latencies(latency: pd.DataFrame, cell: Cell) -> dict[str, Any]:
    key = learner_key(cell.method.learner)
    own = latency[(latency["task"] == cell.task) & (latency["learner"] == key)]
    found: dict[str, Any] = {}
    for line in own.to_dict("records"):
        ending = {ONE: "", BATCH: "_batch"}[line["batch"]]
        found |= {f"latency{ending}_ms": line["median_ms"], f"speed_up{ending}": line["speed_up"]}
        found["machine"] = line["machine"]
    return found
