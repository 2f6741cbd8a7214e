"""A study's finished runs with their scores, each computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study
from internal_kd.report.cells import Cell, cells_of
from internal_kd.report.evidence import Evidence, FinishedRun, TaskEvidence, read_evidence
from internal_kd.statistics import Mean, mean_score
from internal_kd.tasks.info import ScoreColumn
from internal_kd.tasks.metrics import score

Array = np.ndarray


@dataclass(frozen=True)
class StudyResults:
    """A study with everything that was read of its runs: what every table is computed from."""

    study: Study
    evidence: Evidence
    means: dict[tuple[Any, ...], Mean] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Study) -> StudyResults:
        """Read a study's finished runs."""
        return cls(study, read_evidence(study))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the study's tables."""
        return cells_of(self.study)

    def task(self, cell: Cell) -> TaskEvidence:
        """Return a cell's task."""
        return self.evidence.tasks[cell.task]

    def finished(self, cell: Cell) -> tuple[FinishedRun, ...]:
        """Return a cell's finished runs, one a seed."""
        return tuple(self.evidence.of(cell.runs))

    def predicted(self, cell: Cell, split: str = "dev") -> Array:
        """Return predictions of a cell's finished runs, (seeds, examples)."""
        return np.stack([run.predicted(split) for run in self.finished(cell)])

    def teacher_run(self, run: Run) -> FinishedRun | None:
        """Return the run that a student's answers come from; for one without a teacher, the first run that teaches."""
        runs = run.teachers or tuple(
            other for other in self.study.runs if other.task == run.task and other.teaches and other.answers is None
        )
        return next(self.evidence.of(runs), None)

    @cached_property
    def values(self) -> dict[tuple[str, str], float | None]:
        """Every finished run's score by fingerprint and column; None where the metric is not defined."""
        found: dict[tuple[str, str], float | None] = {}
        for run in self.evidence.finished.values():
            task = self.evidence.tasks[run.run.task]
            for name, metric, split in task.info.columns:
                value = score(task.labels(split), run.predicted(split), metric, _classes(task))
                found[run.run.fingerprint, name] = float(value) if np.isfinite(value) else None
        return found

    def scores(self, cell: Cell, name: str) -> list[float | None]:
        """Return a cell's scores, one a finished seed."""
        return [self.values[run.run.fingerprint, name] for run in self.finished(cell)]

    def mean(self, cell: Cell, column: ScoreColumn) -> Mean | None:
        """Return a cell's mean score under a column, with its error; None without a finished run."""
        key = (cell.key, column.name)
        if key not in self.means and self.finished(cell):
            task = self.task(cell)
            labels, predicted = task.labels(column.split), self.predicted(cell, column.split)
            self.means[key] = mean_score(labels, predicted, column.metric, classes=_classes(task))
        return self.means.get(key)

    def scored_cells(self) -> Iterator[tuple[Cell, ScoreColumn]]:
        """Yield every cell with every column of scores of its task, task by task, metric by metric."""
        for name, task in self.evidence.tasks.items():
            for column in task.info.columns:
                yield from ((cell, column) for cell in self.cells if cell.task == name)

    @cached_property
    def majority(self) -> dict[tuple[str, str], float | None]:
        """By task and column: the score of always predicting the dev set's most frequent class, or its mean."""
        found: dict[tuple[str, str], float | None] = {}
        for task in self.evidence.tasks.values():
            for name, metric, split in task.info.columns if task.dev else ():
                labels = task.labels(split)
                known = labels[labels >= 0] if labels.ndim > 1 else labels
                constant = labels.mean() if task.info.kind == "values" else np.bincount(known).argmax()
                value = score(labels, np.full(labels.shape, constant), metric, _classes(task))
                # A constant has no correlation with anything.
                found[task.info.name, name] = float(value) if np.isfinite(value) else 0.0
        return found


def _classes(task: TaskEvidence) -> int | None:
    return len(task.info.labels) or None
