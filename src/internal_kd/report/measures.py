"""What a claim may compare: any metric, nearness to the teacher, and any column of a table that has a line per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from internal_kd.errors import UserError, nearest
from internal_kd.report.cells import Cell
from internal_kd.report.comparing import TeacherComparison
from internal_kd.report.frames import COUNT, SCHEMAS, columns_of
from internal_kd.report.results import StudyResults, TaskExamples
from internal_kd.report.words import scale_of
from internal_kd.statistics import (
    SCOPES,
    Estimate,
    Mean,
    calibration,
    confidence_diversity,
    contrast,
    mean_of,
    mean_of_seeds,
    mean_score,
)
from internal_kd.statistics.compare import Scope
from internal_kd.statistics.estimate import sum_of_independent
from internal_kd.statistics.variance import Side
from internal_kd.tasks.info import ScoreColumn
from internal_kd.tasks.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

FIDELITY = ("agreement", "divergence", "repeated", "excess")
PROBABILITY = ("nll", "entropy", "confidence_diversity", "ece")

# Those that are one number for each seed.
OF_SEEDS = ("confidence_diversity", "ece")


@dataclass(frozen=True)
class Measured:
    """What was measured of a cell.

    Attributes:
        scale: 100 where people read it times 100.
        exact: whether it has no error, as a number of parameters.
        examples: which examples it is about; means of the same ones vary together.
    """

    cell: Cell
    mean: Mean
    scale: float
    exact: bool
    examples: tuple[Any, ...]

    @property
    def value(self) -> float:
        """The mean as people read it."""
        return self.scale * self.mean.mean

    @property
    def gain(self) -> float:
        """The value, negative where lower is better."""
        return self.value if self.mean.higher_is_better else -self.value

    def as_constant(self, seeds: int) -> Measured:
        """Return the one run as a constant: repeated for so many seeds, so that it adds no variance over seeds."""
        side, count = self.mean.side, max(2, seeds)
        repeated = Side(side.scores.repeat(count, -1), side.influence.repeat(count, -2))
        return replace(self, mean=replace(self.mean, scores=self.mean.scores * count, side=repeated))


def combined(parts: Sequence[tuple[float, Measured]], scope: Scope) -> Estimate:
    """Return the weighted sum of what was measured, as people read it, with its error in a scope."""
    groups: dict[tuple[Any, ...], list[tuple[float, Measured]]] = {}
    for weight, one in parts:
        groups.setdefault(one.examples, []).append((weight * one.scale, one))
    if all(one.exact for _, one in parts):
        return Estimate(sum(weight * one.value for weight, one in parts), 0.0, 1.0)
    return sum_of_independent([contrast(*((w, one.mean) for w, one in own), scope=scope) for own in groups.values()])


def bounds_of(*parts: tuple[float, Measured]) -> tuple[float, float]:
    """Return the lowest and highest value that a weighted sum of what was measured can have, as people read it."""
    ends = [sorted(weight * one.scale * end for end in one.mean.bounds) for weight, one in parts if weight]
    return sum(low for low, _ in ends), sum(high for _, high in ends)


class Measures:
    """The measures of a study."""

    def __init__(
        self, results: StudyResults, taught: Sequence[TeacherComparison], read: Callable[[str], pd.DataFrame]
    ) -> None:
        self.results, self.read = results, read
        self.taught = {(one.cell.key, one.split): one for one in taught}

    def of(
        self,
        cell: Cell,
        measure: str | None = None,
        where: Mapping[str, Any] | None = None,
        *,
        lower: bool | None = None,
    ) -> Measured | None:
        """Return what a cell has of a measure; None where nothing is known, or a seed's value is not defined.

        Args:
            measure: a metric with the ending of its dev set (``accuracy_mismatched``), one of FIDELITY or
                PROBABILITY, or ``<table>.<column>``; the task's main metric if left out.
            where: columns of the dev examples, or of the table, with the values that count.
            lower: whether lower is better, in a table.

        Raises:
            UserError: there is no such measure or column.
        """
        found = self._found(cell, measure, dict(where or {}), higher=not lower)
        return None if found is None or np.isnan(found.mean.mean) else found

    def _found(self, cell: Cell, measure: str | None, where: dict[str, Any], *, higher: bool) -> Measured | None:
        task = self.results.task(cell)
        name = measure or task.info.columns[0].name
        columns = {column.name: column for column in task.info.columns}
        if name in columns or (name in METRICS and METRICS[name].kind == task.info.kind):
            return self._scored(cell, columns.get(name, ScoreColumn(name, name, "dev")), where)
        if name in FIDELITY and not where:
            near = self.taught.get((cell.key, "dev"))
            mean = near.quantities.get(name) if near else None
            scale = 1.0 if name == "divergence" else 100.0
            return Measured(cell, mean, scale, False, (cell.task, "dev")) if mean else None
        if name in PROBABILITY and not where and task.info.kind == "classes":
            logits = [run.logits["dev"] for run in self.results.finished(cell)]
            mean = _of_probabilities(name, task.labels(), logits) if logits else None
            return Measured(cell, mean, 1.0, False, (cell.task, "dev", name in OF_SEEDS)) if mean else None
        table, _, column = name.partition(".")
        if table not in SCHEMAS or column not in columns_of(self.results.study, table):
            known = [*columns, *FIDELITY, *PROBABILITY, *SCHEMAS]
            others = ", ".join((*FIDELITY, *PROBABILITY))
            raise UserError(
                f"measure: {name!r} is not a metric of {cell.task}, one of {others} or <table>.<column>"
                f"{nearest(name, known)}"
            )
        return self._tabulated(cell, table, column, where, higher=higher)

    def _scored(self, cell: Cell, column: ScoreColumn, where: dict[str, Any]) -> Measured | None:
        task = self.results.task(cell)
        if not self.results.finished(cell) or column.split not in task.dev:
            return None
        if where:
            chosen = _chosen(task, column.split, where)
            labels, predicted = task.labels(column.split)[chosen], self.results.predicted(cell, column.split)[:, chosen]
            mean = mean_score(labels, predicted, column.metric, classes=task.classes)
        else:
            mean = self.results.mean(cell, column)  # type: ignore[assignment]
        if mean is None:
            return None
        return Measured(
            cell, mean, scale_of(column.name), False, (cell.task, column.split, *sorted(map(str, where.items())))
        )

    def _tabulated(
        self, cell: Cell, table: str, column: str, where: dict[str, Any], *, higher: bool
    ) -> Measured | None:
        kinds, frame = columns_of(self.results.study, table), self.read(table)
        usual = {"metric": self.results.task(cell).info.columns[0].name, "split": "dev", "scope": SCOPES["new"]}
        point = {"task": cell.task, "method": cell.method.name, **dict(cell.point)}
        asked = {key: value for key, value in {**usual, **point}.items() if key in kinds} | where
        if unknown := [key for key in asked if key not in kinds]:
            raise UserError(f"where: {unknown[0]!r} is not a column of {table}{nearest(unknown[0], list(kinds))}")
        texts = {key: str(value) for key, value in asked.items()}
        own = frame[frame[list(texts)].astype(str).eq(texts).all(axis=1)].dropna(subset=[column])
        if own.empty:
            return None
        if "seed" not in kinds and len(own) > 1:
            raise UserError(f"where: {asked} are {len(own)} lines of {table}; name more of its columns")
        # Of several lines of a seed, such as its epochs, the last one counts.
        values = (own if "seed" not in kinds else own.groupby("seed", sort=False).last())[column].to_numpy(float)
        # A number of parameters is what it is, however few seeds there are.
        exact = "seed" not in kinds or (kinds[column] == COUNT and len(values) == 1)
        mean = mean_of_seeds(values, f"{table}.{column}", higher_is_better=higher)
        return Measured(cell, mean, 1.0, exact, (table,))


def _of_probabilities(name: str, labels: np.ndarray, seeds: Sequence[np.ndarray]) -> Mean:
    """Return the mean negative log-likelihood or entropy in nats, or one number for each seed, of classes."""
    if name == "ece":
        return mean_of_seeds(calibration(labels, seeds).errors, name, higher_is_better=False)
    if name == "confidence_diversity":
        return mean_of_seeds([confidence_diversity(labels, logits) for logits in seeds], name)
    logs = [log_softmax(logits.astype(float), axis=1) for logits in seeds]
    if name == "nll":
        return mean_of([-log[np.arange(len(labels)), labels] for log in logs], name, higher_is_better=False)
    return mean_of([-(np.exp(log) * log).sum(1) for log in logs], name)


def _chosen(task: TaskExamples, split: str, where: Mapping[str, Any]) -> np.ndarray:
    """Return which dev examples have these values; labels go by their names."""
    frame = task.dev[split]
    chosen = np.ones(len(frame), dtype=bool)
    for key, value in where.items():
        if key not in frame:
            raise UserError(f"where: {key!r} is not a column of {task.info.name}{nearest(key, list(frame))}")
        column = frame[key]
        if key == "label" and task.info.labels:
            column = column.map(dict(enumerate(task.info.labels)))
        chosen &= (column.astype(str) == str(value)).to_numpy()
    return chosen
