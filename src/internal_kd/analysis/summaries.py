"""cells.csv: every cell's mean, its interval, and the interval of the share it keeps of its teacher's score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from internal_kd.analysis.built import tables_folder
from internal_kd.analysis.cells import TEACHER
from internal_kd.analysis.csv_files import Line, read_csv, write_csv
from internal_kd.analysis.resampling import joint_interval
from internal_kd.analysis.statistics import Arm
from internal_kd.analysis.tables import score_share
from internal_kd.study import Study

CELL_COLUMNS = (
    "task", "metric", "id", "method", "depth", "examples", "seeds", "mean", "std", "low", "high", "teacher_share_low",
    "teacher_share_high",
)  # fmt: skip


@dataclass(frozen=True)
class CellSummary:
    """A line of cells.csv: mean over seeds and its 95 % interval in natural units.

    ``share_low`` and ``share_high`` are the 95 % interval of the mean divided by the teacher's: both means move with
    the examples, each with its own seeds where it has several. None for the teacher, and where a share says nothing.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    share_low: float | None
    share_high: float | None


# By task, method, depth, examples and metric.
Summaries = Mapping[tuple[str, ...], CellSummary]
NOTHING = CellSummary(None, None, None, 0, None, None)


def write_summaries(study: Study, arms: Mapping[tuple[str, ...], Arm]) -> None:
    """Write ``results/<study>/tables/cells.csv``."""
    teachers = {(arm.cell.task, arm.metric): arm for arm in arms.values() if arm.cell.method == TEACHER}
    lines = [_line(arm, teachers.get((arm.cell.task, arm.metric))) for arm in arms.values()]
    write_csv(tables_folder(study) / "cells.csv", CELL_COLUMNS, lines)


def _line(arm: Arm, teacher: Arm | None) -> tuple[object, ...]:
    cell = arm.cell
    row = (cell.task, arm.metric, cell.id, cell.method, cell.depth, cell.examples)
    share = share_interval(arm, teacher) if teacher is not None and teacher is not arm else None
    return (*row, len(arm.seeds), arm.mean, arm.std, *(arm.interval or (None, None)), *(share or (None, None)))


def share_interval(arm: Arm, teacher: Arm) -> tuple[float, float] | None:
    """Return the 95 % interval of an arm's mean divided by its teacher's; None where that share says nothing.

    It says nothing where either may be no better than chance, 0 being in its interval. A ratio is skewed, so it is the
    interval of the ratio's logarithm.
    """
    ends = [end for one in (arm, teacher) for end in one.interval or (0.0,)]
    if score_share(arm.mean, teacher.mean, arm.metric) is None or min(ends) <= 0:
        return None

    def log_share(*means: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(means[0]) - np.log(means[1]))

    bounds = joint_interval(log_share, [arm.spread, teacher.spread])
    return None if bounds is None else (float(np.exp(bounds[0])), float(np.exp(bounds[1])))


def read_summaries(study: Study) -> Summaries:
    """Read cells.csv back.

    Raises:
        UserError: it is missing or not whole.
    """
    return read_csv(tables_folder(study) / "cells.csv", "compare-runs", _build)


def _build(lines: Iterable[Line]) -> dict[tuple[str, ...], CellSummary]:
    return {
        tuple(line[name] for name in ("task", "method", "depth", "examples", "metric")): CellSummary(
            mean=_number(line["mean"]),
            low=_number(line["low"]),
            high=_number(line["high"]),
            seeds=int(line["seeds"]),
            share_low=_number(line["teacher_share_low"]),
            share_high=_number(line["teacher_share_high"]),
        )
        for line in lines
    }


def _number(text: str) -> float | None:
    return float(text) if text else None
