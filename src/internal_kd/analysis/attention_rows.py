"""The lines of the attention tables, from what was measured: by head, and their means with intervals over examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.analysis.cells import STANDARD
from internal_kd.analysis.fidelity import bootstrap_means
from internal_kd.analysis.resampling import interval
from internal_kd.artefacts import StudentRun

if TYPE_CHECKING:
    from internal_kd.distillation.attention_maps import Distance

Array = np.ndarray

BEFORE = "before training"


@dataclass(frozen=True)
class HeadRow:
    """One head of one student layer beside the teacher's: KL(teacher || student) in nats, averaged over real queries.

    ``kl`` is the mean over the dev examples, ``kl_std`` the sample standard deviation over them. A method of which
    nothing could be measured has one line without layer, head and numbers; ``problem`` says why. ``student`` and
    ``teacher`` are the runs' fingerprints, for the untrained student that of its first weights.
    """

    task: str
    id: str
    method: str
    depth: int
    examples: str
    seed: int | None
    student_layer: int | None
    teacher_layer: int | None
    head: int | None
    dev_examples: int
    kl: float | None
    kl_std: float | None
    student: str
    teacher: str
    problem: str = ""


@dataclass(frozen=True)
class AttentionRow:
    """One student: the mean over its maps with its interval over examples, and as a multiple of the baseline's.

    ``by_layer`` holds (student layer, teacher layer, mean). The ratio's interval draws the same examples for both.
    """

    task: str
    id: str
    method: str
    title: str
    depth: int
    examples: str
    seed: int | None
    dev_examples: int = 0
    heads: int | None = None
    kl: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    student: str = ""
    teacher: str = ""
    problem: str = ""
    by_layer: tuple[tuple[int, int, float], ...] = ()


COLUMNS = (
    "task", "id", "method", "depth", "examples", "seed", "dev_examples", "heads", "kl", "low", "high", "baseline",
    "ratio", "ratio_low", "ratio_high", "student", "teacher", "problem",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What is held against the teacher: its line so far, its model, its layer map, and the student it is.

    ``student`` is None for a student before its training.
    """

    row: AttentionRow
    folder: Path
    layers: tuple[int, ...]
    student: StudentRun | None

    @property
    def ready(self) -> bool:
        """Whether it can be measured."""
        return not self.row.problem


def baseline_of(subjects: Sequence[Subject]) -> int | None:
    """Return which subject is standard distillation: row 3.0, else the first method taught by outputs alone."""
    standard = [n for n, subject in enumerate(subjects) if subject.row.id == STANDARD]
    plain = [n for n, s in enumerate(subjects) if s.student and s.student.method.needs_teacher and not _reads_layers(s)]
    return next(iter([*standard, *plain]), None)


def _reads_layers(subject: Subject) -> bool:
    return bool(subject.student and subject.student.method.layer_terms)


def head_rows(subjects: Sequence[Subject], distances: Sequence[Distance | None]) -> list[HeadRow]:
    """Return a line for every head of every student layer, and one for everything that was not measured."""
    lines = []
    for subject, distance in zip(subjects, distances, strict=True):
        row = subject.row
        head = (row.task, row.id, row.method, row.depth, row.examples, row.seed)
        if distance is None:
            lines.append(HeadRow(*head, None, None, None, 0, None, None, row.student, row.teacher, row.problem))
            continue
        mean, std = distance.kl.mean(0), _std(distance.kl)
        for own, taught in enumerate(subject.layers):
            for number in range(mean.shape[1]):
                spread = None if std is None else float(std[own, number])
                numbers = (len(distance.kl), float(mean[own, number]), spread)
                lines.append(HeadRow(*head, own + 1, taught, number + 1, *numbers, row.student, row.teacher))
    return lines


def attention_rows(subjects: Sequence[Subject], distances: Sequence[Distance | None]) -> list[AttentionRow]:
    """Return a line for every subject: its mean, interval and ratio to the baseline."""
    number = baseline_of(subjects)
    of_baseline = None if number is None else distances[number]
    base = None if of_baseline is None else of_baseline.kl.mean((1, 2))
    rows = []
    for subject, distance in zip(subjects, distances, strict=True):
        if distance is None:
            rows.append(subject.row)
            continue
        values = distance.kl.mean((1, 2))
        row = _measured(subject, distance.kl, values)
        if number is not None and base is not None and base.mean() > 0:
            row = _with_ratio(row, subjects[number].row.id, values, base)
        rows.append(row)
    return rows


def _measured(subject: Subject, kl: Array, values: Array) -> AttentionRow:
    low, high = interval(bootstrap_means(values)) or (None, None)
    by_layer = [(n + 1, taught, float(kl[:, n].mean())) for n, taught in enumerate(subject.layers)]
    return replace(
        subject.row, dev_examples=len(kl), heads=kl.shape[2], kl=float(values.mean()), low=low, high=high,
        by_layer=tuple(by_layer),
    )  # fmt: skip


def _with_ratio(row: AttentionRow, name: str, values: Array, base: Array) -> AttentionRow:
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = interval(bootstrap_means(values) / bootstrap_means(base)) or (None, None)
    ratio = float(values.mean() / base.mean())
    return replace(row, baseline=name, ratio=ratio, ratio_low=low, ratio_high=high)


def _std(kl: Array) -> Array | None:
    return kl.std(0, ddof=1) if len(kl) > 1 else None
