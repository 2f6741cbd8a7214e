"""Reading runs: predictions enter a table only when the run is whole and speaks about the task's own dev examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.artefacts import Run, TokenizedTask
from internal_kd.params.sources import FilesEntry, GlueEntry
from internal_kd.records import problem_with, read_record
from internal_kd.study import Study
from internal_kd.tasks import GLUE

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

# The split a score is computed on, by the suffix of the metric's name.
SPLITS = {"": "dev", "_mismatched": "dev_mismatched"}


@dataclass(frozen=True)
class TaskFacts:
    """What the tables need to know of a task; ``problem`` says why its dev examples cannot be read."""

    name: str
    title: str
    metrics: tuple[str, ...]
    regression: bool
    classes: int
    labels: tuple[str, ...]
    rows: dict[str, int]
    dev: dict[str, pd.DataFrame]
    problem: str | None = None

    @property
    def scored(self) -> tuple[tuple[str, str, str], ...]:
        """Every (metric's name in the tables, metric, split)."""
        pairs = [(suffix, split) for suffix, split in SPLITS.items() if suffix == "" or split in self.rows]
        return tuple((metric + suffix, metric, split) for suffix, split in pairs for metric in self.metrics)


@dataclass(frozen=True)
class FinishedRun:
    """A whole run: its record and its dev predictions by split, sorted by example id."""

    run: Run
    record: dict[str, Any]
    predictions: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Evidence:
    """All that is known: the tasks, the finished runs by folder, and what is wrong with the others."""

    tasks: dict[str, TaskFacts]
    finished: dict[str, FinishedRun]
    problems: dict[str, str]


def logits_of(finished: FinishedRun, split: str) -> np.ndarray:
    """Return a run's logits on a dev set, (examples, classes); for regression the prediction, (examples, 1)."""
    frame = finished.predictions[split]
    return frame[[name for name in frame.columns if name.startswith("logit_")]].to_numpy(float)


def read_evidence(study: Study) -> Evidence:
    """Read every wanted run; one that is missing, broken or of other examples becomes a named problem."""
    tasks = {name: read_facts(tokens) for name, tokens in study.tasks.items()}
    finished, problems = {}, {}
    for run in study.runs:
        try:
            finished[str(run.folder)] = _read_run(run, tasks[run.task])
        except _Problem as problem:
            problems[str(run.folder)] = str(problem)
    return Evidence(tasks, finished, problems)


def read_facts(tokens: TokenizedTask) -> TaskFacts:
    """Return a task's facts from its manifest; where the data is not here, what the table of tasks says."""
    from internal_kd.data.tasks_on_disk import read_task

    data = tokens.data
    problem = problem_with(data, checksums=True)
    if problem:
        return _facts_without_data(tokens, f"the task's data is not whole ({data.folder}: {problem})")
    task = read_task(data)
    rows = {split: int(facts["rows"]) for split, facts in task.splits.items()}
    dev = {
        split: task.frame(split)[["idx", "label"]].sort_values("idx", ignore_index=True)
        for split in SPLITS.values()
        if split in rows
    }
    return TaskFacts(task.task, task.title, task.metrics, task.regression, task.classes, task.labels, rows, dev)


def _facts_without_data(tokens: TokenizedTask, problem: str) -> TaskFacts:
    entry, name = tokens.data.entry, tokens.task
    title, regression = name, False
    metrics: tuple[str, ...] = ("accuracy",)
    if isinstance(entry, GlueEntry):
        task = GLUE[tokens.data.glue or name]
        title, metrics, regression = task.title, task.metrics, task.regression
    elif isinstance(entry, FilesEntry):
        regression = entry.type == "regression"
        metrics = entry.metrics or (("pearson", "spearman") if regression else ("accuracy",))
    return TaskFacts(name, title, metrics, regression, 1 if regression else 0, (), {}, {}, problem)


class _Problem(Exception):
    """Why a run cannot enter a table."""


def _read_run(run: Run, facts: TaskFacts) -> FinishedRun:
    if problem := problem_with(run, checksums=True):
        raise _Problem(problem)
    if facts.problem:
        raise _Problem(facts.problem)
    record = read_record(run)
    predictions = {}
    for split, dev in facts.dev.items():
        name = "predictions.parquet" if split == "dev" else f"predictions_{split}.parquet"
        if name not in record.get("files", {}):
            raise _Problem(f"run.json does not list {name}")
        predictions[split] = _read_predictions(run.folder / name, dev, facts)
    return FinishedRun(run, record, predictions)


def _read_predictions(path: Path, dev: pd.DataFrame, facts: TaskFacts) -> pd.DataFrame:
    import pandas as pd

    columns = ["idx", "label", *(f"logit_{k}" for k in range(facts.classes))]
    try:
        frame = pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, KeyError) as error:
        raise _Problem(f"{path.name} cannot be read ({' '.join(str(error).split())[:80]})") from None
    frame = frame.sort_values("idx", ignore_index=True)
    if not np.array_equal(frame["idx"].to_numpy(), dev["idx"].to_numpy()):
        raise _Problem(f"{path.name} holds other examples than the task's dev set ({len(frame)} instead of {len(dev)})")
    if not np.allclose(frame["label"].to_numpy(float), dev["label"].to_numpy(float), rtol=1e-6):
        raise _Problem(f"{path.name} holds other labels than the task's dev set")
    if not np.isfinite(frame[columns[2:]].to_numpy(float)).all():
        raise _Problem(f"{path.name} holds logits that are not finite")
    return frame
