"""Calibration: whether a model that says 0.9 is right nine times in ten.

Expected calibration error after Guo et al. 2017, "On calibration of modern neural networks", equation 3: confidence is
the highest softmax probability (top label), examples fall into 15 bins of equal width over (0, 1], and the error is the
mean distance between a bin's accuracy and its mean confidence, weighted by the examples in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import pairwise

import numpy as np

from internal_kd.analysis.built import tables_folder
from internal_kd.analysis.cells import Cell, cells_of
from internal_kd.analysis.csv_files import write_csv
from internal_kd.analysis.layout import depth_text, size_text, task_text
from internal_kd.analysis.predictions import Evidence, TaskFacts, logits_of
from internal_kd.analysis.text_tables import TextTable
from internal_kd.study import Study

Array = np.ndarray

BINS = 15


@dataclass(frozen=True)
class CalibrationRow:
    """A cell's calibration on one dev set: means over seeds in natural units, None without a finished run."""

    task: str
    split: str
    id: str
    method: str
    depth: int | None
    examples: str
    seeds: int
    ece: float | None
    ece_std: float | None
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram, (low, high]: how many examples, how sure, how often right."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


RELIABILITY_COLUMNS = ("task", "split", "id", "method", "depth", "examples", *(field.name for field in fields(Bin)))


def confidences(logits: Array) -> Array:
    """Return the highest softmax probability of every example, (N,), for logits (N, K)."""
    from scipy.special import softmax

    return softmax(logits, axis=1).max(axis=1)


def reliability(confidence: Array, right: Array, bins: int = BINS) -> list[Bin]:
    """Return the bins of a reliability diagram for confidences and correct answers, both (N,)."""
    edges = np.linspace(0, 1, bins + 1)
    at = np.searchsorted(edges[1:-1], confidence, side="left")
    found = []
    for number, (low, high) in enumerate(pairwise(edges)):
        of = at == number
        count = int(of.sum())
        means = (float(confidence[of].mean()), float(right[of].mean())) if count else (None, None)
        found.append(Bin(float(low), float(high), count, *means))
    return found


def expected_calibration_error(confidence: Array, right: Array, bins: int = BINS) -> float:
    """Return the expected calibration error, a fraction, for confidences and correct answers, both (N,)."""
    distances = [
        one.count * abs(one.accuracy - one.confidence)
        for one in reliability(confidence, right, bins)
        if one.accuracy is not None and one.confidence is not None
    ]
    return float(sum(distances) / len(confidence))


def write_calibration(study: Study, evidence: Evidence) -> TextTable:
    """Write calibration.csv, and to reliability.csv the bins of every cell, seeds pooled; returns the table's text."""
    rows, bins = [], []
    for cell in cells_of(study):
        facts = evidence.tasks[cell.task]
        if facts.regression:
            continue
        for split in dict.fromkeys(split for _, _, split in facts.scored):
            seeds = _seeds(cell, evidence, split)
            rows.append(_row(cell, split, seeds))
            if seeds:
                confidence, right = (np.concatenate([seed[part] for seed in seeds]) for part in (0, 1))
                pooled = reliability(confidence, right)
                head = (cell.task, split, cell.id, cell.method, cell.depth, cell.examples)
                bins += [(*head, *astuple(one)) for one in pooled]
    folder = tables_folder(study)
    write_csv(folder / "calibration.csv", [f.name for f in fields(CalibrationRow)], [astuple(row) for row in rows])
    write_csv(folder / "reliability.csv", RELIABILITY_COLUMNS, bins)
    return calibration_text(evidence.tasks, rows)


def _seeds(cell: Cell, evidence: Evidence, split: str) -> list[tuple[Array, Array]]:
    seeds = []
    for run in cell.runs:
        if finished := evidence.finished.get(str(run.folder)):
            logits = logits_of(finished, split)
            labels = finished.predictions[split]["label"].to_numpy(int)
            seeds.append((confidences(logits), logits.argmax(axis=1) == labels))
    return seeds


def _row(cell: Cell, split: str, seeds: Sequence[tuple[Array, Array]]) -> CalibrationRow:
    head = (cell.task, split, cell.id, cell.method, cell.depth, cell.examples, len(seeds))
    if not seeds:
        return CalibrationRow(*head, None, None, None, None)
    errors = [expected_calibration_error(confidence, right) for confidence, right in seeds]
    std = float(np.std(errors, ddof=1)) if len(errors) > 1 else None
    means = [float(np.mean([np.mean(seed[part]) for seed in seeds])) for part in (0, 1)]
    return CalibrationRow(*head, float(np.mean(errors)), std, means[0], means[1])


def calibration_text(tasks: Mapping[str, TaskFacts], rows: Sequence[CalibrationRow]) -> TextTable:
    """Return the rows laid out."""
    header = ("task", "id", "method", "layers", "seeds", "ECE", "mean confidence", "accuracy")
    lines = []
    for row in rows:
        spread = "" if row.ece_std is None else f" ± {100 * row.ece_std:.1f}"
        shares = ["–" if value is None else f"{100 * value:.1f}" for value in (row.ece, row.confidence, row.accuracy)]
        named = (task_text(tasks[row.task], row.split), row.id, row.method + size_text(row.examples))
        lines.append((*named, depth_text(row.depth), str(row.seeds), shares[0] + spread, *shares[1:]))
    note = (
        "Times 100, mean ± sample standard deviation over seeds. ECE: expected calibration error of the top label, "
        f"{BINS} bins of equal width (Guo et al. 2017); 0 is perfect. Confidence above accuracy is overconfidence."
    )
    return TextTable(header, tuple(lines), "lllrrrrr", (note,))
