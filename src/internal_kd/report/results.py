"""Every finished run of a study, read once, checksums compared, with its scores.

A run enters a table only if it is complete and its predictions are about the task's own dev examples; what is wrong
with any other run is kept in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.checksums import Damaged, verified
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Data
from internal_kd.plan.known import known_labels
from internal_kd.plan.runs import Run
from internal_kd.plan.store import OPTIONAL_PREFIX, problem_with, read_history, read_record
from internal_kd.plan.study import Study
from internal_kd.report.cells import Cell, cells_of
from internal_kd.statistics import Mean, mean_score
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.info import ScoreColumn, TaskInfo
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import score
from internal_kd.tasks.tags import word_id

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


@dataclass(frozen=True)
class TaskExamples:
    """A task's facts and its dev sets by split, sorted by example id; ``problem`` is why they cannot be read."""

    info: TaskInfo
    dev: dict[str, pd.DataFrame]
    problem: str | None = None

    def labels(self, split: str = "dev") -> Array:
        """Return the gold labels, (N,); of tags (N, longest), padded with -1."""
        return KINDS[self.info.kind].by_example(self.row_ids[split], self.row_labels(split))

    def answers(self, logits: Array, split: str = "dev") -> Array:
        """Return what logits (rows, C) predict, as ``labels`` has it."""
        kind = KINDS[self.info.kind]
        return kind.by_example(self.row_ids[split], kind.predicted(logits))

    def score(self, answers: Array, column: ScoreColumn) -> float:
        """Return the score of answers under a column, NaN where the metric is not defined."""
        return float(score(self.labels(column.split), answers, column.metric, self.classes))

    @property
    def classes(self) -> int | None:
        """The number of classes or tags, None for values."""
        return len(self.info.labels) or None

    def row_labels(self, split: str = "dev") -> Array:
        """Return the gold label of every row of logits, (N,), of tags of every word."""
        return self.rows(split)["label"].to_numpy(float if self.info.kind == "values" else int)

    def rows(self, split: str = "dev") -> pd.DataFrame:
        """Return idx and label of every row of logits, and of tags token, the word's number, in their order."""
        frame = self.dev[split]
        if KINDS[self.info.kind].row == "example":
            return frame[["idx", "label"]]
        words = frame[["idx", "label"]].explode("label", ignore_index=True)
        words["token"] = words.groupby("idx").cumcount()
        return words

    @cached_property
    def row_ids(self) -> dict[str, Array]:
        """The ids of the rows of logits by split, ascending."""
        found = {}
        for split in self.dev:
            rows = self.rows(split)
            idx = rows["idx"].to_numpy()
            found[split] = word_id(idx, rows["token"].to_numpy()) if "token" in rows else idx
        return found


@dataclass(frozen=True)
class FinishedRun:
    """A complete run: its record, its logits by dev set in the order of the task's rows, its history."""

    run: Run
    task: TaskExamples
    record: dict[str, Any]
    logits: dict[str, Array]
    history: tuple[dict[str, Any], ...]

    def predicted(self, split: str = "dev") -> Array:
        """Return predicted classes or values, (N,); of tags (N, longest), padded with -1."""
        return self.task.answers(self.logits[split], split)


@dataclass(frozen=True)
class StudyResults:
    """A study with everything that was read of its runs: what every table is computed from.

    Attributes:
        finished_runs: by fingerprint; ``problems``: what is wrong with others.
    """

    study: Study
    tasks: dict[str, TaskExamples]
    finished_runs: dict[str, FinishedRun]
    problems: dict[str, str]
    means: dict[tuple[Any, ...], Mean] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Study) -> StudyResults:
        """Read every run of a study; one that is missing, damaged or about other examples becomes a named problem."""
        tasks = {name: read_task(inputs.data) for name, inputs in study.tasks.items()}
        finished, problems = {}, {}
        for run in study.runs:
            try:
                finished[run.fingerprint] = _read_run(run, tasks[run.task])
            except _Problem as problem:
                problems[run.fingerprint] = str(problem)
        return cls(study, tasks, finished, problems)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the study's tables."""
        return cells_of(self.study)

    def task(self, cell: Cell) -> TaskExamples:
        """Return a cell's task."""
        return self.tasks[cell.task]

    def finished(self, cell: Cell) -> tuple[FinishedRun, ...]:
        """Return a cell's finished runs, one a seed."""
        return self._done(cell.runs)

    def each(self) -> Iterator[tuple[Cell, FinishedRun]]:
        """Yield every finished run with its cell, in the order of the tables."""
        return ((cell, done) for cell in self.cells for done in self.finished(cell))

    def teachers(self, run: Run) -> tuple[FinishedRun, ...]:
        """Return the finished runs that a run listens to, none unless all of them are finished."""
        found = self._done(run.teachers)
        return found if len(found) == len(run.teachers) else ()

    def predicted(self, cell: Cell, split: str = "dev") -> Array:
        """Return predictions of a cell's finished runs, (seeds, examples)."""
        return np.stack([run.predicted(split) for run in self.finished(cell)])

    def teacher_run(self, run: Run) -> FinishedRun | None:
        """Return the run that a student's answers come from; for one without a teacher, the first run that teaches."""
        runs = run.teachers or tuple(
            other for other in self.study.runs if other.task == run.task and other.teaches and other.answers is None
        )
        return next(iter(self._done(runs)), None)

    def _done(self, runs: Iterable[Run]) -> tuple[FinishedRun, ...]:
        found = (self.finished_runs.get(run.fingerprint) for run in runs)
        return tuple(run for run in found if run is not None)

    @cached_property
    def values(self) -> dict[tuple[str, str], float | None]:
        """Every finished run's score by fingerprint and column; None where the metric is not defined."""
        found: dict[tuple[str, str], float | None] = {}
        for run in self.finished_runs.values():
            for column in run.task.info.columns:
                value = run.task.score(run.predicted(column.split), column)
                found[run.run.fingerprint, column.name] = value if np.isfinite(value) else None
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
            self.means[key] = mean_score(labels, predicted, column.metric, classes=task.classes)
        return self.means.get(key)

    def scored_cells(self) -> Iterator[tuple[Cell, ScoreColumn]]:
        """Yield every cell with every column of scores of its task, task by task, metric by metric."""
        for name, task in self.tasks.items():
            for column in task.info.columns:
                yield from ((cell, column) for cell in self.cells if cell.task == name)

    @cached_property
    def majority(self) -> dict[tuple[str, str], float | None]:
        """By task and column: the score of always predicting the dev set's most frequent class, or its mean."""
        found: dict[tuple[str, str], float | None] = {}
        for task in self.tasks.values():
            for column in task.info.columns if task.dev else ():
                labels = task.labels(column.split)
                known = labels[labels >= 0] if labels.ndim > 1 else labels
                constant = labels.mean() if task.info.kind == "values" else np.bincount(known).argmax()
                value = task.score(np.full(labels.shape, constant), column)
                # A constant has no correlation with anything.
                found[task.info.name, column.name] = value if np.isfinite(value) else 0.0
        return found


# Reading


def read_task(data: Data) -> TaskExamples:
    """Read a task's facts and dev sets; without its data, its facts are what the parameters give."""
    from internal_kd.data import examples

    if problem := problem_with(data):
        return TaskExamples(_info_from_params(data), {}, f"the examples of {data.name} are not here ({problem})")
    try:
        task = examples.read_task(data)
        splits = dict.fromkeys(column.split for column in task.info.columns)
        dev = {split: task.frame(split).sort_values("idx", ignore_index=True) for split in splits}
    except UserError as error:
        return TaskExamples(_info_from_params(data), {}, str(error))
    return TaskExamples(task.info, dev)


def _info_from_params(data: Data) -> TaskInfo:
    if data.glue is not None:
        return replace(GLUE[data.glue].info({}, ""), name=data.name)
    labels = known_labels(data) or (() if data.kind == "values" else ("0", "1"))
    metrics = getattr(data.entry, "metrics", None) or KINDS[data.kind].default_metrics(labels)
    return TaskInfo(data.name, data.name, data.kind, labels, metrics, 1, {})


class _Problem(Exception):
    """Why a run cannot enter a table."""


def _read_run(run: Run, task: TaskExamples) -> FinishedRun:
    if problem := problem_with(run) or task.problem:
        raise _Problem(problem)
    record = read_record(run)
    try:
        verified(run.folder, record, [name for name in record["files"] if not name.startswith(OPTIONAL_PREFIX)])
    except Damaged as damaged:
        raise _Problem(damaged.problem) from None
    logits = {}
    for split in task.dev:
        name = "predictions.parquet" if split == "dev" else f"predictions_{split}.parquet"
        if name not in record["files"]:
            raise _Problem(f"run.json does not list {name}")
        logits[split] = read_logits(run.folder / name, task.rows(split), task.info)
    return FinishedRun(run, task, record, logits, tuple(read_history(run.folder / "history.jsonl")))


def read_logits(path: Path, dev: pd.DataFrame, info: TaskInfo) -> Array:
    """Return the logits in a file of predictions, in the order of the dev set's rows."""
    import pandas as pd

    columns = [f"logit_{k}" for k in range(info.outputs)]
    try:
        order = [name for name in ("idx", "token") if name in dev]
        frame = pd.read_parquet(path, columns=[*order, "label", *columns]).sort_values(order, ignore_index=True)
    except (OSError, ValueError, KeyError) as error:
        raise _Problem(f"{path.name} cannot be read ({' '.join(str(error).split())[:80]})") from None
    if not np.array_equal(frame[order].to_numpy(), dev[order].to_numpy()):
        raise _Problem(f"{path.name} has other examples than the task's dev set ({len(frame)} instead of {len(dev)})")
    if not np.allclose(frame["label"].to_numpy(float), dev["label"].to_numpy(float), rtol=1e-6):
        raise _Problem(f"{path.name} has other labels than the task's dev set")
    logits = frame[columns].to_numpy(float)
    if not np.isfinite(logits).all():
        raise _Problem(f"{path.name} has logits that are not finite")
    return logits
