"""Which run of a task is exported: the best method by its mean dev score over seeds, and one of its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import Any, NamedTuple

from internal_kd.errors import UserError, nearest
from internal_kd.export.scores import predictions_of, score_of
from internal_kd.params.data import FilesEntry
from internal_kd.plan.runs import Run
from internal_kd.plan.store import WEIGHTS, problem_with, read_record
from internal_kd.plan.study import Study
from internal_kd.report.cells import Cell, cells_of, point_text
from internal_kd.report.words import metric_title
from internal_kd.statistics import mean_over_seeds
from internal_kd.tasks.info import ScoreColumn, TaskInfo
from internal_kd.tasks.metrics import METRICS

# Learners of a plugin have a format of their own.
EXPORTABLE = ("encoder", "finished", "mlp", "cnn", "soft_tree", "pair", "adaptive", "subnetwork")
# Digits of means that count: others differ by the order in which the same numbers are summed.
_DIGITS = 12


@dataclass(frozen=True)
class Request:
    """What is asked for; nothing leaves the choice to the scores.

    Attributes:
        run: a run's fingerprint, or the beginning of one.
        point: values of varied keys, such as ``{"learner.layers": "3"}``.
    """

    method: str | None = None
    run: str | None = None
    point: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A row that was compared: its mean over ``seeds`` finished runs of ``planned``, None if that is not defined."""

    name: str
    mean: float | None
    seeds: int
    planned: int
    parameters: int | None


@dataclass(frozen=True)
class Choice:
    """A run, and why it is this one.

    Attributes:
        candidates: the rows it was chosen from, best mean first, those without one last.
        values: the scores of its row's finished seeds, by seed; None where they are not defined.
        kept: the seeds whose weights are here.
        rule: what chose among those: ``only``, ``run`` (asked for), ``held_out`` or ``dev`` (the best score on these).
        method_given: whether the row was asked for.
    """

    run: Run
    cell: Cell
    metric: str
    candidates: tuple[Candidate, ...]
    values: Mapping[int, float | None]
    kept: tuple[int, ...]
    rule: str
    method_given: bool

    @property
    def compared(self) -> tuple[Candidate, ...]:
        """The candidates with a mean."""
        return tuple(candidate for candidate in self.candidates if candidate.mean is not None)

    @property
    def tied(self) -> tuple[str, ...]:
        """The other rows with the same mean as the chosen one."""
        digits = {"rel_tol": 0, "abs_tol": 10**-_DIGITS}
        return tuple(c.name for c in self.compared[1:] if isclose(c.mean or 0, self.mean or 0, **digits))

    @property
    def mean(self) -> float | None:
        """Mean over seeds of the chosen row."""
        return self.candidates[0].mean

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What is missing, such as ``3.5 Stacked (SID): 1 of 2 seeds``; empty if every candidate is complete."""
        return tuple(f"{c.name}: {c.seeds} of {c.planned} seeds" for c in self.candidates if c.seeds < c.planned)


class _Finished(NamedTuple):
    """A finished run, its record and its main score."""

    run: Run
    record: Mapping[str, Any]
    score: float | None


class Undefined(UserError):
    """No row of a task has a score to be ranked by."""


BEST = Request()


def choose(study: Study, task: str, info: TaskInfo, request: Request = BEST) -> Choice:
    """Return the run of a task that is exported.

    Rows with equal means are ranked by their number of parameters, then by their place in the tables. Of the best
    row's seeds, those with weights count: the one with the best score on held-out training examples if all have one,
    else the one with the best dev score.

    Raises:
        UserError: the study has no such method, run or value, no such run is finished, or none has its weights.
        Undefined: no row has a mean score.
    """
    cells = _candidates(study, task, request)
    main = info.columns[0]
    sign = 1.0 if METRICS[main.metric].higher_is_better else -1.0
    rows = [_candidate(cell, info, main) for cell in cells]
    rows.sort(key=lambda row: _rank(row[0], sign))  # stable, so the order of the tables decides at last
    best, cell, finished = rows[0]
    given = request.method is not None or request.run is not None
    if not finished:
        raise UserError(f"{task}: no run that could be exported is finished; `internal-kd run` trains them")
    if best.mean is None and not given:
        raise Undefined(_why_undefined(study, task, info, finished[0].run))
    asked_for = [one for one in finished if one.run.fingerprint.startswith(request.run or "")]
    if not asked_for:
        raise UserError(f"{task}: run {request.run} is not finished; `internal-kd make {request.run}` trains it")
    kept = [one for one in asked_for if (one.run.folder / WEIGHTS).is_file()]
    if not kept:
        raise UserError(_why_no_weights(study, task, best.name, cell.runs[0]))
    chosen, rule = _seed(kept, main.metric, sign)
    return Choice(
        run=chosen.run,
        cell=cell,
        metric=main.name,
        candidates=tuple(candidate for candidate, _, _ in rows),
        values={one.run.seed: one.score for one in finished},
        kept=tuple(one.run.seed for one in kept),
        rule="run" if request.run is not None else rule,
        method_given=given,
    )


def name_of(cell: Cell) -> str:
    """Return what people call a row: ``3.5 Stacked (SID), learner.layers 3``."""
    return ", ".join([cell.name, *(f"{axis} {value}" for axis, value in cell.point)])


def _candidates(study: Study, task: str, request: Request) -> list[Cell]:
    """Return the rows that may be exported: those asked for, or every student."""
    cells = [cell for cell in cells_of(study) if cell.task == task]
    if request.run is not None:
        run = study.run_beginning(request.run)
        return _exportable([cell for cell in cells if run in cell.runs], task)
    if request.method is not None:
        if request.method not in study.methods:
            known = list(study.methods)
            raise UserError(
                f"unknown method {request.method!r}{nearest(request.method, known)}; the study has {', '.join(known)}"
            )
        cells = [cell for cell in cells if cell.method.name == request.method]
    else:
        cells = [cell for cell in cells if cell.is_student and cell.method.name in study.params.requested]
    for axis, value in request.point.items():
        cells = _at(cells, study, axis, str(value))
    return _exportable(cells, task)


def _at(cells: list[Cell], study: Study, axis: str, value: str) -> list[Cell]:
    if axis not in study.axes:
        known = ", ".join(study.axes) or "none"
        raise UserError(f"{axis!r} is not varied{nearest(axis, study.axes)}; varied keys of the study: {known}")
    chosen = [cell for cell in cells if dict(cell.point)[axis] == value]
    if not chosen:
        known = ", ".join(point_text(item) for item in study.params.study.vary[axis])
        raise UserError(f"no method has {axis} {value}; the study has {known}")
    return chosen


def _exportable(cells: list[Cell], task: str) -> list[Cell]:
    chosen = [cell for cell in cells if cell.method.learner.kind in EXPORTABLE]
    if chosen:
        return chosen
    if cells:
        raise UserError(f"{task}: a learner of kind {cells[0].method.learner.kind!r} has no format to be exported in")
    raise UserError(f"{task}: the study has no student to export; name a method")


def _candidate(cell: Cell, info: TaskInfo, main: ScoreColumn) -> tuple[Candidate, Cell, list[_Finished]]:
    runs = [(run, read_record(run)) for run in cell.runs if problem_with(run) is None]
    finished = [_Finished(run, record, score_of(run, record, info, main)) for run, record in runs]
    mean = mean_over_seeds([one.score for one in finished])
    parameters = next((one.record.get("encoder_parameters") for one in finished), None)
    return Candidate(name_of(cell), mean, len(finished), len(cell.runs), parameters), cell, finished


def _rank(candidate: Candidate, sign: float) -> tuple[float, ...]:
    if candidate.mean is None:
        return (1.0, -candidate.seeds)
    return (0.0, -sign * round(candidate.mean, _DIGITS), candidate.parameters or 0)


def _seed(kept: Sequence[_Finished], metric: str, sign: float) -> tuple[_Finished, str]:
    """Return one of the runs with weights, and what chose it."""
    if len(kept) == 1:
        return kept[0], "only"
    aside = [sign * value for one in kept if (value := (one.record.get("held_out") or {}).get(metric)) is not None]
    if len(aside) == len(kept):
        return kept[aside.index(max(aside))], "held_out"
    scored = [(sign * one.score, one) for one in kept if one.score is not None]
    return (max(scored, key=lambda pair: pair[0])[1] if scored else kept[0]), "dev"


def _why_undefined(study: Study, task: str, info: TaskInfo, run: Run) -> str:
    """Return what is not defined, why, and what would rank the runs."""
    metric, entry = info.metrics[0], study.params.tasks[task]
    labels = predictions_of(run).labels
    why = "every row has a seed that predicts one value for all dev examples"
    if len(set(labels.tolist())) == 1:
        why = f"all {len(labels)} dev examples have the label {labels[0]:g}"
    always = "mse" if info.kind == "values" else "accuracy"
    ranks = f"`metrics: [{always}]` in tasks.{task} ranks them, or " if isinstance(entry, FilesEntry) else ""
    return f"{task}: {metric_title(metric)} is not defined ({why}); {ranks}ask for a method by its name"


def _why_no_weights(study: Study, task: str, name: str, run: Run) -> str:
    return (
        f"{task}: no weights of {name} are here (machine.keep_models: {study.params.machine.keep_models}); `dvc pull` "
        f"them, or set keep_models: all, delete {run.folder.parent} and run again"
    )
