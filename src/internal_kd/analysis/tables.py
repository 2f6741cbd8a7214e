"""The main table: one row per task, metric, method, depth and training-set size, with what is missing left visible."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from internal_kd.analysis.cells import FULL, Cell, cells_of
from internal_kd.analysis.predictions import TaskFacts
from internal_kd.analysis.scores import Score
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER


@dataclass(frozen=True)
class MainRow:
    """One row of main.csv, in natural units; None where there is nothing to say.

    ``seeds`` counts finished seeds, ``std`` is the sample standard deviation over them, ``teacher_share`` the mean
    divided by the teacher's mean, both above 0. ``mean`` is None when a finished seed has no defined value: leaving
    that seed out would flatter the method.
    """

    task: str
    metric: str
    id: str
    method: str
    depth: int | None
    examples: str
    seeds: int
    mean: float | None
    std: float | None
    teacher_share: float | None
    encoder_parameters: int | None
    total_parameters: int | None

    @property
    def teacher_share_std(self) -> float | None:
        """Sample standard deviation of the share over this row's seeds, the teacher's mean taken as it is."""
        if self.std is None or self.teacher_share is None or self.mean is None:
            return None
        return self.std * self.teacher_share / self.mean


MAIN_COLUMNS = tuple(field.name for field in fields(MainRow))


@dataclass(frozen=True)
class MainTable:
    """Every row of the main table with the cells, the tasks and the titles it is laid out by."""

    cells: tuple[Cell, ...]
    tasks: Mapping[str, TaskFacts]
    rows: tuple[MainRow, ...]

    def row(self, cell: Cell, metric: str) -> MainRow:
        """Return the row of a cell and a metric."""
        return self._by_key[(*cell.key, metric)]

    def lines(self) -> tuple[Cell, ...]:
        """Return one cell per line of the laid-out table: the first task's that has it."""
        return tuple({cell.row: cell for cell in reversed(self.cells)}[row] for row in self._line_order())

    def cell(self, task: str, line: Cell) -> Cell | None:
        """Return a task's cell on a line, or None where the task has none."""
        return next((c for c in self.cells if c.task == task and c.row == line.row), None)

    @cached_property
    def _by_key(self) -> dict[tuple[str, ...], MainRow]:
        return {
            (row.task, row.method, "" if row.depth is None else str(row.depth), row.examples, row.metric): row
            for row in self.rows
        }

    def _line_order(self) -> list[tuple[str, str, str]]:
        return list(dict.fromkeys(cell.row for cell in self.cells))


def base_metric(metric: str) -> str:
    """Return the metric without the name of its dev set: ``accuracy`` for ``accuracy_mismatched``."""
    return metric.removesuffix("_mismatched")


def summarise(study: Study, tasks: Mapping[str, TaskFacts], scores: Sequence[Score]) -> MainTable:
    """Return the main table of a study: every wanted row is there, also one without any run."""
    cells = cells_of(study)
    by_key: dict[tuple[Any, ...], list[Score]] = {}
    for score in scores:
        by_key.setdefault((*score.key, score.metric), []).append(score)
    rows = []
    for task, facts in tasks.items():
        for metric, _, _ in facts.scored:
            teacher_mean: float | None = None
            for cell in (c for c in cells if c.task == task):
                found = by_key.get((*cell.key, metric), [])
                row = _row(cell, metric, found, teacher_mean)
                if cell.is_teacher:
                    teacher_mean = row.mean
                    row = replace(row, teacher_share=score_share(row.mean, teacher_mean, metric))
                rows.append(row)
    return MainTable(cells, tasks, tuple(rows))


def _row(cell: Cell, metric: str, scores: Sequence[Score], teacher_mean: float | None) -> MainRow:
    values = [score.value for score in scores if score.value is not None]
    defined = bool(values) and len(values) == len(scores)
    mean = statistics.fmean(values) if defined else None
    return MainRow(
        task=cell.task,
        metric=metric,
        id=cell.id,
        method=cell.method,
        depth=cell.depth,
        examples=cell.examples,
        seeds=len(scores),
        mean=mean,
        std=statistics.stdev(values) if defined and len(values) > 1 else None,
        teacher_share=score_share(mean, teacher_mean, metric),
        encoder_parameters=scores[0].encoder_parameters if scores else None,
        total_parameters=scores[0].total_parameters if scores else None,
    )


def score_share(mean: float | None, teacher_mean: float | None, metric: str) -> float | None:
    """Return a mean score divided by the teacher's; None where that says nothing.

    A share of an error says nothing, nor does one of a score at or below 0, which is chance for correlations.
    """
    if mean is None or teacher_mean is None or not HIGHER_IS_BETTER[base_metric(metric)]:
        return None
    if mean <= 0 or teacher_mean <= 0:
        return None
    return mean / teacher_mean


def nested_metrics(rows: Sequence[MainRow]) -> dict[str, Any]:
    """Return task -> metric -> depth -> method -> mean, std, seeds in natural units, for ``dvc metrics``."""
    nested: dict[str, Any] = {}
    for row in rows:
        method = row.method if row.examples == FULL else f"{row.method} n{row.examples}"
        depth = "L?" if row.depth is None else f"L{row.depth}"
        values = {"mean": row.mean, "std": row.std}
        known = {name: value for name, value in values.items() if value is not None}
        nested.setdefault(row.task, {}).setdefault(row.metric, {}).setdefault(depth, {})[method] = {
            **known,
            "seeds": row.seeds,
        }
    return nested
