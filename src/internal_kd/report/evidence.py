"""Every finished run of a study, read once: its record, its predictions and its history, checksums compared.

A run enters a table only if it is complete and its predictions are about the task's own dev examples; what is wrong
with any other run is kept in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.checksums import Damaged, verified
from internal_kd.errors import UserError
from internal_kd.params.data import OWN, GeneratorEntry
from internal_kd.plan.artefacts import Data
from internal_kd.plan.runs import Run
from internal_kd.plan.store import OPTIONAL_PREFIX, problem_with, read_history, read_record
from internal_kd.plan.study import Study
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.tags import tag_names, word_id

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


@dataclass(frozen=True)
class TaskEvidence:
    """A task's facts and its dev sets by split, sorted by example id; ``problem`` is why they cannot be read."""

    info: TaskInfo
    dev: dict[str, pd.DataFrame]
    problem: str | None = None

    def labels(self, split: str = "dev") -> Array:
        """Return the gold labels, (N,); of tags (N, longest), padded with -1."""
        labels = self.rows(split)["label"].to_numpy(float if self.info.kind == "values" else int)
        return KINDS[self.info.kind].by_example(self.row_ids(split), labels)

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
class Evidence:
    """All that is known of a study: tasks by name; finished runs, and what is wrong with others, by fingerprint."""

    tasks: dict[str, TaskEvidence]
    finished: dict[str, FinishedRun]
    problems: dict[str, str]

    def of(self, runs: tuple[Run, ...]) -> Iterator[FinishedRun]:
        """Yield those of the runs that are finished."""
        return (self.finished[run.fingerprint] for run in runs if run.fingerprint in self.finished)


def read_evidence(study: Study) -> Evidence:
    """Read every run of a study; one that is missing, damaged or about other examples becomes a named problem."""
    tasks = {name: read_task(inputs.data) for name, inputs in study.tasks.items()}
    finished, problems = {}, {}
    for run in study.runs:
        try:
            finished[run.fingerprint] = _read_run(run, tasks[run.task])
        except _Problem as problem:
            problems[run.fingerprint] = str(problem)
    return Evidence(tasks, finished, problems)


def read_task(data: Data) -> TaskEvidence:
    """Read a task's facts and dev sets; without its data, its facts are what the parameters give."""
    from internal_kd.data import examples

    if problem := problem_with(data):
        return TaskEvidence(_info_from_params(data), {}, f"the examples of {data.name} are not here ({problem})")
    try:
        task = examples.read_task(data)
        splits = dict.fromkeys(column.split for column in task.info.columns)
        dev = {split: task.frame(split).sort_values("idx", ignore_index=True) for split in splits}
    except UserError as error:
        return TaskEvidence(_info_from_params(data), {}, str(error))
    return TaskEvidence(task.info, dev)


def _info_from_params(data: Data) -> TaskInfo:
    if data.glue is not None:
        return replace(GLUE[data.glue].info({}, ""), name=data.name)
    labels: tuple[str, ...] = () if data.kind == "values" else ("0", "1")
    title, metrics = data.name, KINDS[data.kind].default_metrics(labels)
    if isinstance(data.entry, OWN):
        labels = tuple(str(label) for label in data.entry.labels or labels)
        labels = tag_names(labels) if data.kind == "tags" else labels
        metrics = data.entry.metrics or KINDS[data.kind].default_metrics(labels)
    elif isinstance(data.entry, GeneratorEntry):
        title = data.entry.grammar.capitalize()
    return TaskInfo(data.name, title, data.kind, labels, metrics, 1, {})


class _Problem(Exception):
    """Why a run cannot enter a table."""


def _read_run(run: Run, task: TaskEvidence) -> FinishedRun:
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
