"""What MLflow shows of one run: a finished one from its record, a training at work from its progress, a row's mean."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from internal_kd.checksums import sha256_text
from internal_kd.errors import UserError
from internal_kd.export.choice import name_of
from internal_kd.export.scores import DEV, score_of
from internal_kd.export.words import settings_of
from internal_kd.files import read_mapping
from internal_kd.plan.runs import Run
from internal_kd.plan.store import read_history
from internal_kd.plan.study import Study
from internal_kd.report.cells import Cell, teacher_of
from internal_kd.report.scoring import score_share
from internal_kd.report.words import seeds_of, with_spread
from internal_kd.running.status import is_running, progress_file
from internal_kd.statistics import mean_over_seeds, std_over_seeds
from internal_kd.statistics.reading import DASH
from internal_kd.tasks.info import ScoreColumn, TaskInfo
from internal_kd.tracking.names import (
    DIGITS,
    IDENTITY,
    LIVE,
    MADE_BY,
    MAKER,
    Point,
    coordinates,
    epoch_points,
    identity_of,
    is_finite,
)
from internal_kd.tracking.view import ROW

MODEL = "model/model.safetensors"
GIGABYTE = 10**9


@dataclass(frozen=True)
class RunContent:
    """One run as MLflow shows it.

    Attributes:
        started, finished: milliseconds since 1970; ``finished`` is when a training that is at work was last heard of.
        status: MLflow's word: FINISHED, RUNNING, or KILLED for a training that nobody works on and that is not done.
    """

    name: str
    started: int
    finished: int
    params: dict[str, str]
    metrics: tuple[Point, ...]
    tags: dict[str, str]
    status: str = "FINISHED"

    @property
    def identity(self) -> str:
        """What it is recognised by when it is published again."""
        return self.tags[IDENTITY]

    @property
    def is_live(self) -> bool:
        """Whether it is of a training that is not finished."""
        return LIVE in self.tags

    @cached_property
    def digest(self) -> str:
        """One word for all of it: what is there already with the same digest is left alone."""
        return sha256_text(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False))[:16]


@dataclass(frozen=True)
class TaskRuns:
    """A task with its cells, its columns of scores, and the records of its finished runs by fingerprint."""

    study: Study
    name: str
    info: TaskInfo | None
    cells: tuple[Cell, ...]
    records: dict[str, dict[str, Any]]

    @cached_property
    def columns(self) -> tuple[ScoreColumn, ...]:
        """The task's columns of scores; without its data those that runs recorded."""
        if self.info is not None:
            return self.info.columns
        recorded = next((record.get("scores") or {} for record in self.records.values()), {})
        return tuple(ScoreColumn(metric, metric, DEV) for metric in recorded)

    def score(self, run: Run, column: ScoreColumn) -> float | None:
        """Return a finished run's score, None if it is not defined or cannot be read."""
        record = self.records[run.fingerprint]
        if self.info is None:
            return (record.get("scores") or {}).get(column.metric)
        with suppress(UserError):
            return score_of(run, record, self.info, column)
        return None

    def finished(self, cell: Cell) -> list[Run]:
        """Return a cell's finished runs."""
        return [run for run in cell.runs if run.fingerprint in self.records]

    def scores(self, cell: Cell, column: ScoreColumn) -> list[float | None]:
        """Return a cell's scores, one for each finished run."""
        return [self.score(run, column) for run in self.finished(cell)]


def finished_content(task: TaskRuns, cell: Cell, run: Run) -> RunContent:
    """Return a finished run with its curves, scores and origin."""
    record = task.records[run.fingerprint]
    started, finished = _milliseconds(record["started"]), _milliseconds(record["finished"])
    epochs = read_history(run.folder / "history.jsonl")
    metrics = [point for line, at in _times(epochs, started) for point in epoch_points(line, at)]
    scores = {column.name: task.score(run, column) for column in task.columns}
    metrics += _points({**_rounded(scores), "majority": record.get("majority"), **_measured(record)}, finished)
    kept, commit = record["files"].get(MODEL), record.get("git_commit")
    tags = {
        **_tags(task, cell, run),
        "score": _score_text(task, list(scores.values())[:1]),
        "dvc.model": f"{run.folder}/model" if kept else "not kept",
        **({"model_sha256": kept["sha256"]} if kept else {}),
        **_provenance(record),
        **({"mlflow.source.git.commit": commit} if commit else {}),
    }
    return RunContent(_name(cell, run), started, finished, _params(run), tuple(metrics), tags)


def live_content(task: TaskRuns, cell: Cell, run: Run) -> RunContent | None:
    """Return a training that has begun and is not finished, None if there is nothing to show."""
    at_work, progress = is_running(run), progress_file(run.fingerprint)
    lines = read_history(progress.with_suffix(".jsonl"))
    if not (at_work or lines):
        return None
    try:
        known = read_mapping(progress)
        started, updated = _milliseconds(known["started"]), _milliseconds(known["updated"])
    except (UserError, KeyError, TypeError, ValueError):
        started = updated = round(1000 * time.time())
        with suppress(OSError):
            started = updated = round(1000 * progress.with_suffix(".jsonl").stat().st_mtime)
    metrics = [point for line, at in _times(lines, started) for point in epoch_points(line, at)]
    last = {key.removeprefix("dev_"): value for line in lines for key, value in line.items() if key.startswith("dev_")}
    score = _score_text(task, [last.get(column.metric) for column in task.columns[:1]])
    tags = {**_tags(task, cell, run), "score": score, LIVE: "true"}
    status = "RUNNING" if at_work else "KILLED"
    return RunContent(_name(cell, run), started, updated, _params(run), tuple(metrics), tags, status)


def cell_content(task: TaskRuns, cell: Cell, seeds: Sequence[RunContent]) -> RunContent:
    """Return the aggregates of a row over its finished seeds, under the same names."""
    scores = {column.name: task.scores(cell, column) for column in task.columns}
    values: dict[str, float | None] = {"seeds": float(len(seeds))}
    for name, own in scores.items():
        values |= _rounded({name: mean_over_seeds(own), f"{name}_std": std_over_seeds(own)})
    for column in task.columns[:1]:
        values |= _rounded({f"{column.name}_teacher_share": _teacher_share(task, cell, column)})
    values |= {name: mean for name, mean in _means(seeds).items() if name not in values}
    finished = max(seed.finished for seed in seeds)
    params = {
        name: value
        for name, value in seeds[0].params.items()
        if name != "seed" and {seed.params.get(name) for seed in seeds} == {value}
    }
    tags = {
        **_common_tags(task, cell, cell.runs[0]),
        IDENTITY: cell_identity(cell),
        "level": "method",
        "score": _score_text(task, next(iter(scores.values()), [])),
        "seeds": seeds_of(len(seeds), len(cell.runs)),
        "fingerprints": " ".join(seed.tags["fingerprint"] for seed in seeds),
        "mlflow.source.name": "internal-kd publish-runs",
    }
    started = min(seed.started for seed in seeds)
    return RunContent(name_of(cell), started, finished, params, tuple(_points(values, finished)), tags)


# Names and tags


def _name(cell: Cell, run: Run) -> str:
    return f"{name_of(cell)}, seed {run.seed}"


def cell_identity(cell: Cell) -> str:
    """Return what a row is recognised by."""
    return "method " + " | ".join(cell.key)


def _common_tags(task: TaskRuns, cell: Cell, run: Run) -> dict[str, str]:
    who = {"teacher": run.answers.who} if run.answers is not None else {}
    known = {
        MADE_BY: MAKER, "mlflow.source.type": "LOCAL", "study": task.study.name, "id": cell.id,
        "title": cell.method.title, ROW: name_of(cell),
    }  # fmt: skip
    return {**known, **coordinates(run), **who, **{f"vary.{axis}": value for axis, value in cell.point}}


def _tags(task: TaskRuns, cell: Cell, run: Run) -> dict[str, str]:
    """Return the tags of a single training; ``teachers`` are the fingerprints of the runs that it listens to."""
    listens = {"teachers": " ".join(teacher.fingerprint for teacher in run.teachers)} if run.teachers else {}
    start = run.first.source if run.first is not None else None
    return {
        **_common_tags(task, cell, run),
        IDENTITY: identity_of(run),
        "level": "run",
        "seed": str(run.seed),
        "fingerprint": run.fingerprint,
        **listens,
        **({"starts_from": start.fingerprint} if start is not None else {}),
        "dvc.folder": str(run.folder),
        "mlflow.source.name": "internal-kd make",
    }


def _params(run: Run) -> dict[str, str]:
    return dict(_flat({**run.method.point, **coordinates(run), "seed": run.seed, **settings_of(run)}))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _provenance(record: Mapping[str, Any]) -> dict[str, str]:
    names = ("git_commit", "git_dirty", "lock_sha256", "data_sha256", "device", "precision", "versions")
    return dict(_flat({name: record.get(name) for name in names}))


# Scores and other numbers


def _score_text(task: TaskRuns, own: Sequence[float | None]) -> str:
    """Return the main score as people read it: ``89.6 ± 1.2`` over seeds, ``89.6`` for one run, else a dash."""
    if not task.columns:
        return DASH
    return with_spread(task.columns[0].name, mean_over_seeds(own), std_over_seeds(own))


def _teacher_share(task: TaskRuns, cell: Cell, column: ScoreColumn) -> float | None:
    """Return a row's mean as a share of its teacher's; None for a teacher's own row."""
    above = teacher_of(cell, task.cells)
    if above is None or above == cell or not cell.is_student:
        return None
    own, theirs = (mean_over_seeds(task.scores(one, column)) for one in (cell, above))
    return score_share(own, theirs, column.metric)


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, DIGITS) for name, value in values.items()}


def _measured(record: Mapping[str, Any]) -> dict[str, float]:
    digits = {"seconds": 1, "examples_per_second": 1, "encoder_parameters": 0, "total_parameters": 0}
    found = {name: round(float(record[name]), n) for name, n in digits.items() if is_finite(record.get(name))}
    memory: Any = record.get("peak_memory")
    return found | ({"peak_memory_gb": round(memory / GIGABYTE, 3)} if is_finite(memory) else {})


def _means(seeds: Sequence[RunContent]) -> dict[str, float]:
    """Return the means of what was measured of every seed, so that both levels fill the same columns."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for point in seed.metrics:
            if point.step == 0:
                found.setdefault(point.name, []).append(point.value)
    return {name: round(statistics.fmean(each), DIGITS) for name, each in found.items() if len(each) == len(seeds)}


def _points(values: Mapping[str, float | None], at: int) -> list[Point]:
    return [
        Point(name, float(value), 0, at) for name, value in values.items() if value is not None and is_finite(value)
    ]


# Times and files


def _times(lines: Sequence[dict[str, Any]], started: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Give every epoch the moment at which it ended, by its own seconds: the same while it trains and afterwards."""
    passed = 0.0
    for line in lines:
        passed += line["seconds"] if is_finite(line.get("seconds")) else 0.0
        yield line, started + round(1000 * passed)


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
