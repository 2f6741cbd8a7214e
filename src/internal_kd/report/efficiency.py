"""What a row costs, and what it saves against what it loses.

    DS = alpha * size_student / size_teacher + (1 - alpha) * (1 - score_student / score_teacher)

Alkhulaifi, Alsahli and Ahmad 2021, "Knowledge distillation in deep learning and its applications", PeerJ Computer
Science. Lower is better: 0 is a student without size that scores like its teacher, the teacher itself has alpha (0 to
1), and below 0 a student wins.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from internal_kd.learners.learner import UNTRAINED
from internal_kd.report.cells import Cell, counterpart, primary_rows
from internal_kd.report.latency import BATCH, ONE, learner_key
from internal_kd.report.results import StudyResults
from internal_kd.report.study_frames import StudyFrames

if TYPE_CHECKING:
    import pandas as pd


def cost_columns(results: StudyResults, cell: Cell, teacher: Cell | None, share: float | None) -> dict[str, Any]:
    """Return a cell's columns of the main table about costs.

    All stages of a curriculum are counted, so a row that trains on its lower layers alone for a while has short steps.

    Args:
        teacher: what its sizes are shares of.
        share: its score as a share of the teacher's.
    """
    own, theirs = ([run.record for run in results.finished(one)][:1] if one else [] for one in (cell, teacher))
    sizes = {f"{part}_parameters": own[0].get(f"{part}_parameters") for part in ("encoder", "total") if own}
    shares = {
        f"{name.partition('_')[0]}_share": size / theirs[0][name]
        for name, size in sizes.items()
        if size is not None and theirs and theirs[0].get(name)
    }
    baseline = primary_rows(results.study)[1] if cell.is_student else None
    other = counterpart(cell, baseline, results.cells) if baseline else None
    same = other is not None and other.method.learner == cell.method.learner
    seconds, of_baseline = _step_seconds(results, cell), _step_seconds(results, other) if other and same else None
    alpha, encoder = results.study.params.analysis.distillation_alpha, shares.get("encoder_share")
    return {
        **sizes, **shares, "step_seconds": seconds,
        "training_seconds": None if cell.method.learner.kind in UNTRAINED else _median(results, cell, "seconds"),
        "distillation_score": None if encoder is None or share is None else distillation_score(encoder, share, alpha),
        "step_share": seconds / of_baseline if seconds and of_baseline else None,
        "recorded_bytes": own[0].get("recorded_bytes") if own and cell.is_student else None,
    }  # fmt: skip


def distillation_score(size: float, score: float, alpha: float) -> float:
    """Return DS, as above, of shares of the teacher's size and score."""
    return alpha * size + (1 - alpha) * (1 - score)


def _median(results: StudyResults, cell: Cell, name: str) -> float | None:
    """Return a recorded number's median over finished seeds, None where none is finished or they are of two devices."""
    records = [run.record for run in results.finished(cell) if run.record.get(name)]
    if len({str(record.get("device", "unknown")) for record in records}) != 1:
        return None
    return float(median(record[name] for record in records))


def _step_seconds(results: StudyResults, cell: Cell) -> float | None:
    rate = _median(results, cell, "examples_per_second")
    return cell.method.settings.batch_size / rate if rate else None


def with_latency(frames: StudyFrames, lines: pd.DataFrame) -> pd.DataFrame:
    """Return a table's lines with what was measured here: multiply-adds, latencies, the speed-up, the machine."""
    import pandas as pd

    keys, latency = ["task", "method", *frames.study.axes], frames["latency"]
    learners = [cell.columns() | {"learner": learner_key(cell.method.learner)} for cell in frames.cells]
    lines = lines.merge(pd.DataFrame(learners, columns=[*keys, "learner"]), on=keys, how="left")
    same = {name: name for name in ("speed_up", "machine", "multiply_adds")}
    for batch, columns in ((ONE, {"median_ms": "latency_ms", **same}), (BATCH, {"median_ms": "latency_batch_ms"})):
        timed = latency[latency["batch"] == batch][["task", "learner", *columns]].rename(columns=columns)
        lines = lines.merge(timed, on=["task", "learner"], how="left")
    return lines
