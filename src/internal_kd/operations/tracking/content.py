"""What MLflow is to show of a study: names, parameters, metrics and tags, made from its finished runs alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from internal_kd.analysis.cells import Cell, cells_of, seeds_text
from internal_kd.analysis.layout import metric_title, percent, shown, text_table
from internal_kd.analysis.predictions import FinishedRun, read_evidence
from internal_kd.analysis.scores import Score, scores_of
from internal_kd.analysis.tables import MainRow, MainTable, summarise
from internal_kd.analysis.text_tables import markdown
from internal_kd.artefacts import StudentRun
from internal_kd.files import sha256_text
from internal_kd.operations.tracking.names import (
    IDENTITY,
    MADE_BY,
    MAKER,
    Point,
    coordinates,
    epoch_points,
    experiment_name,
    identity_of,
    is_finite,
)
from internal_kd.operations.tracking.view import views
from internal_kd.study import Study

MODEL = "model/model.safetensors"
GIGABYTE = 10**9
LONGEST_NOTE = 20_000  # what MLflow takes


@dataclass(frozen=True)
class RunContent:
    """One run as MLflow is to show it. ``started`` and ``finished`` in milliseconds since 1970."""

    name: str
    started: int
    finished: int
    params: dict[str, str]
    metrics: tuple[Point, ...]
    tags: dict[str, str]

    @property
    def identity(self) -> str:
        """What it is recognised by when it is published again."""
        return self.tags[IDENTITY]

    @cached_property
    def digest(self) -> str:
        """One word for all of it: where it is there already, nothing is to be done."""
        return sha256_text(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False))[:16]


@dataclass(frozen=True)
class MethodContent:
    """A method at one depth: the aggregates over its seeds, and a run for each."""

    aggregate: RunContent
    seeds: tuple[RunContent, ...]


@dataclass(frozen=True)
class ExperimentContent:
    """A task of a study. ``wanted`` names all that belongs here, also what is not finished yet."""

    name: str
    tags: dict[str, str]
    methods: tuple[MethodContent, ...]
    wanted: frozenset[str]


@dataclass(frozen=True)
class StudyContent:
    """All that a study has to show, and how many of its runs have nothing to show yet."""

    experiments: tuple[ExperimentContent, ...]
    unfinished: int


def content_of(study: Study) -> StudyContent:
    """Return what a study has to show; every score is computed from the recorded predictions."""
    evidence = read_evidence(study)
    scores = scores_of(study, evidence)
    table = summarise(study, evidence.tasks, scores)
    experiments = tuple(_experiment(study, task, table, evidence.finished, scores) for task in study.tasks)
    return StudyContent(experiments, len(evidence.problems))


def _experiment(
    study: Study, task: str, table: MainTable, finished: Mapping[str, FinishedRun], scores: Sequence[Score]
) -> ExperimentContent:
    cells = tuple(cell for cell in cells_of(study) if cell.task == task)
    methods = []
    for cell in cells:
        runs = [finished[str(run.folder)] for run in cell.runs if str(run.folder) in finished]
        if runs:
            seeds = tuple(_seed(study, cell, run, scores) for run in runs)
            methods.append(MethodContent(_aggregate(study, cell, table, seeds), seeds))
    facts = table.tasks[task]
    rows = tuple(row for row in table.rows if row.task == task)
    main_table = markdown(text_table(MainTable(cells, {task: facts}, rows)))
    tags = {
        "mlflow.note.content": f"{facts.title} in the study {study.name}.\n\n{main_table}"[:LONGEST_NOTE],
        **views([name for name, _, _ in facts.scored]),
        "mlflow.experiment.primaryMetric.name": facts.metrics[0],
        MADE_BY: MAKER,
    }
    wanted = frozenset([*map(_cell_identity, cells), *(identity_of(run) for cell in cells for run in cell.runs)])
    return ExperimentContent(experiment_name(study.name, task), tags, tuple(methods), wanted)


def _seed(study: Study, cell: Cell, done: FinishedRun, scores: Sequence[Score]) -> RunContent:
    run, record = done.run, done.record
    started, finished = _milliseconds(record["started"]), _milliseconds(record["finished"])
    lines = [json.loads(line) for line in (run.folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics = [point for line, time in _times(lines, started, finished) for point in epoch_points(line, time)]
    final = {score.metric: score.value for score in scores if score.fingerprint == run.fingerprint}
    metrics += _points({**final, **_measured(record)}, finished)
    folder = str(run.folder)
    kept = record["files"].get(MODEL)
    tags = {
        **_common_tags(study, cell),
        IDENTITY: identity_of(run),
        "level": "run",
        "seed": str(run.seed),
        "fingerprint": run.fingerprint,
        "dvc.folder": folder,
        "dvc.model": f"{folder}/model" if kept else "not kept",
        **({"model_sha256": kept["sha256"]} if kept else {}),
        **_provenance(record),
        "mlflow.source.name": f"internal-kd {run.step.replace('_', '-')}",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": f"{cell.title}, {_layers(cell)}, seed {run.seed}. Files: `{folder}`.",
    }
    if record.get("git_commit"):
        tags["mlflow.source.git.commit"] = record["git_commit"]
    return RunContent(run.label, started, finished, _params(cell, done), tuple(metrics), tags)


def _aggregate(study: Study, cell: Cell, table: MainTable, seeds: Sequence[RunContent]) -> RunContent:
    rows = [row for row in table.rows if row.task == cell.task and row is table.row(cell, row.metric)]
    values: dict[str, float | None] = {"seeds": float(len(seeds))}
    for row in rows:
        values |= {row.metric: row.mean, f"{row.metric}_std": row.std}
        shares = {"teacher_share": row.teacher_share, "teacher_share_std": row.teacher_share_std}
        values |= {f"{row.metric}_{name}": value for name, value in shares.items()}
    values |= _means(seeds, exclude=set(values))
    finished = max(seed.finished for seed in seeds)
    common = dict.fromkeys(seeds[0].params)
    params = {name: seeds[0].params[name] for name in common if len({seed.params.get(name) for seed in seeds}) == 1}
    params.pop("seed", None)
    tags = {
        **_common_tags(study, cell),
        IDENTITY: _cell_identity(cell),
        "level": "method",
        "seeds": seeds_text(len(seeds), len(cell.runs)),
        "fingerprints": " ".join(seed.tags["fingerprint"] for seed in seeds),
        "mlflow.source.name": "internal-kd publish-runs",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": _note(cell, rows),
    }
    name = cell.runs[0].label.removesuffix(f" | s{cell.runs[0].seed}")
    return RunContent(
        name, min(seed.started for seed in seeds), finished, params, tuple(_points(values, finished)), tags
    )


def _cell_identity(cell: Cell) -> str:
    return "method " + " | ".join(cell.key)


def _common_tags(study: Study, cell: Cell) -> dict[str, str]:
    tags = {MADE_BY: MAKER, "study": study.name, "id": cell.id, "title": cell.title, **coordinates(cell.runs[0])}
    return tags | ({} if cell.depth is None else {"depth": str(cell.depth)})


def _layers(cell: Cell) -> str:
    size = "" if cell.examples == "full" else f", {cell.examples} examples"
    return f"{'?' if cell.depth is None else cell.depth} layers{size}"


def _note(cell: Cell, rows: Iterable[MainRow]) -> str:
    lines = [f"{cell.title}, {_layers(cell)}. Times 100, mean ± standard deviation over seeds:", ""]
    for row in rows:
        spread = "" if row.std is None else f" ± {shown(row.metric, row.std)}"
        known = row.teacher_share is not None and not cell.is_teacher
        share = f", {percent(row.teacher_share, row.teacher_share_std)} of the teacher" if known else ""
        value = "undefined" if row.mean is None else f"{shown(row.metric, row.mean)}{spread}{share}"
        lines.append(f"- {metric_title(row.metric)}: **{value}** ({seeds_text(row.seeds, len(cell.runs))} seeds)")
    return "\n".join(lines)


def _params(cell: Cell, done: FinishedRun) -> dict[str, str]:
    run = done.run
    params: dict[str, Any] = {**coordinates(run), "depth": cell.depth, "seed": run.seed}
    params |= {"max_length": run.tokens.max_length}
    if isinstance(run, StudentRun):
        params |= {"curriculum": run.method.curriculum, "initialization": run.initial.initialization.model_dump()}
    return dict(_flat({**params, **done.record["params"]}))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _provenance(record: Mapping[str, Any]) -> dict[str, str]:
    names = ("git_commit", "git_dirty", "lock_sha256", "data_sha256", "device", "precision", "versions")
    return dict(_flat({name: record.get(name) for name in names}))


def _measured(record: Mapping[str, Any]) -> dict[str, float | None]:
    names = ("seconds", "examples_per_second", "encoder_parameters", "total_parameters")
    memory: Any = record.get("peak_memory")
    gigabytes = memory / GIGABYTE if is_finite(memory) else None
    return {**{name: record.get(name) for name in names}, "peak_memory_gb": gigabytes}


def _means(seeds: Sequence[RunContent], exclude: set[str]) -> dict[str, float]:
    """Return the means of what was measured of every seed, so that both levels fill the same columns."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for point in seed.metrics:
            if point.step == 0 and point.name not in exclude:
                found.setdefault(point.name, []).append(point.value)
    return {name: statistics.fmean(values) for name, values in found.items() if len(values) == len(seeds)}


def _points(values: Mapping[str, float | None], time: int) -> list[Point]:
    return [
        Point(name, float(value), 0, time) for name, value in values.items() if value is not None and is_finite(value)
    ]


def _times(lines: Sequence[dict[str, Any]], started: int, finished: int) -> list[tuple[dict[str, Any], int]]:
    """Give every epoch the moment at which it ended: the run's time, shared out by the epochs' own seconds."""
    total = sum(line["seconds"] for line in lines) or 1.0
    passed, timed = 0.0, []
    for line in lines:
        passed += line["seconds"]
        timed.append((line, started + round((finished - started) * passed / total)))
    return timed


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
