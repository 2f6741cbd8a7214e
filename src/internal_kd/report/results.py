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
        return KINDS[self.info.kind].by_example(self.row_ids(split), self.row_labels(split))

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

    def row_ids(self, split: str = "dev") -> Array:
        """Return the ids of the rows of logits, ascending."""
        rows = self.rows(split)
        return word_id(rows["idx"].to_numpy(), rows["token"].to_numpy()) if "token" in rows else rows["idx"].to_numpy()


@dataclass(frozen=True)
class FinishedRun:
    """A complete run: its record, its logits by dev set in the order of the task's rows, its history.

    Logits are (N, C), of tags (words, C) with their ids in ``rows``.
    """

    run: Run
    record: dict[str, Any]
    logits: dict[str, Array]
    history: tuple[dict[str, Any], ...]
    kind: str
    rows: dict[str, Array] = field(default_factory=dict)

    def predicted(self, split: str = "dev") -> Array:
        """Return predicted classes or values, (N,); of tags (N, longest), padded with -1."""
        kind = KINDS[self.kind]
        return kind.by_example(self.rows.get(split, self.logits[split]), kind.predicted(self.logits[split]))


@dataclass(frozen=True)
class StudyResults:
    """A study with everything that was read of its runs: what every table is computed from.

    Attributes:
        tasks: by name.
        finished_runs: by fingerprint; ``problems``: what is wrong with others.
        means: filled by ``mean``.
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
        return cls(study, tasks, *read_runs(study, tasks))

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
            task = self.tasks[run.run.task]
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
        for name, task in self.tasks.items():
            for column in task.info.columns:
                yield from ((cell, column) for cell in self.cells if cell.task == name)

    @cached_property
    def majority(self) -> dict[tuple[str, str], float | None]:
        """By task and column: the score of always predicting the dev set's most frequent class, or its mean."""
        found: dict[tuple[str, str], float | None] = {}
        for task in self.tasks.values():
            for name, metric, split in task.info.columns if task.dev else ():
                labels = task.labels(split)
                known = labels[labels >= 0] if labels.ndim > 1 else labels
                constant = labels.mean() if task.info.kind == "values" else np.bincount(known).argmax()
                value = score(labels, np.full(labels.shape, constant), metric, _classes(task))
                # A constant has no correlation with anything.
                found[task.info.name, name] = float(value) if np.isfinite(value) else 0.0
        return found


def _classes(task: TaskExamples) -> int | None:
    return len(task.info.labels) or None


# Reading


def read_runs(study: Study, tasks: dict[str, TaskExamples]) -> tuple[dict[str, FinishedRun], dict[str, str]]:
    """Read every run; return finished runs, and what is wrong with others in words, by fingerprint."""
    finished, problems = {}, {}
    for run in study.runs:
        try:
            finished[run.fingerprint] = _read_run(run, tasks[run.task])
        except _Problem as problem:
            problems[run.fingerprint] = str(problem)
    return finished, problems


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
    history, rows = read_history(run.folder / "history.jsonl"), {split: task.row_ids(split) for split in task.dev}
    return FinishedRun(run, record, logits, tuple(history), task.info.kind, rows)


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
