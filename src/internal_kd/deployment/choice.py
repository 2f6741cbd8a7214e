"""Which student of a task is handed on: the best method by its mean over seeds, then that method's best seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from internal_kd.analysis.cells import FULL, Cell
from internal_kd.analysis.figures import CellSummary, Numbers, shown_depth, shown_size
from internal_kd.analysis.scores import Score
from internal_kd.analysis.tables import base_metric
from internal_kd.artefacts import StudentRun
from internal_kd.data.encoder_files import WEIGHTS
from internal_kd.deployment.exported import Wish
from internal_kd.errors import UserError, nearest
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER


@dataclass(frozen=True)
class Candidate:
    """A method that was asked for: its mean over the finished seeds, of those the study wants; None: not defined."""

    method: str
    title: str
    mean: float | None
    finished: int
    wanted: int


@dataclass(frozen=True)
class Choice:
    """A student and why it is this one.

    ``candidates`` are the methods it was chosen from, best mean first, those without one last; ``summary`` is its
    method's mean over seeds with the bootstrap interval, ``std`` the sample standard deviation, ``values`` the scores
    of the method's seeds, and ``kept`` how many of them have their weights here.
    """

    run: StudentRun
    cell: Cell
    metric: str
    candidates: tuple[Candidate, ...]
    method_given: bool
    summary: CellSummary
    std: float | None
    values: tuple[float, ...]
    value: float
    kept: int

    @property
    def compared(self) -> tuple[Candidate, ...]:
        """The candidates that have a mean."""
        return tuple(candidate for candidate in self.candidates if candidate.mean is not None)

    @property
    def unfinished(self) -> str | None:
        """Seeds finished of those wanted, for every candidate; None where none lacks any."""
        if all(candidate.finished == candidate.wanted for candidate in self.candidates):
            return None
        return ", ".join(f"{each.title} {each.finished} of {each.wanted}" for each in self.candidates)


def choose_student(study: Study, numbers: Numbers, task: str, wish: Wish) -> Choice:
    """Return the student of a task that is exported.

    Raises:
        UserError: the method, depth or size is none of the study's, no such student has a score, or the weights of
            none of the best method's seeds were kept.
    """
    metric = numbers.main_metric(task)
    sign = 1.0 if HIGHER_IS_BETTER[base_metric(metric)] else -1.0
    cells = _candidates(study, numbers, task, wish)
    defined = [(mean, cell) for cell in cells if (mean := numbers.summary(cell).mean) is not None]
    if not defined:
        raise UserError(f"no student of {task} asked for has a {metric}: `internal-kd run` trains what is missing")
    # Sorting is stable: of equals the first of the study's list.
    ranked = [cell for _, cell in sorted(defined, key=lambda pair: -sign * pair[0])]
    ranked += [cell for cell in cells if cell not in ranked]
    best = ranked[0]
    seeds = {score.fingerprint: score for score in numbers.scores[(*best.key, metric)] if score.value is not None}
    runs = {run.fingerprint: run for run in best.runs if isinstance(run, StudentRun)}
    kept = [score for fp, score in seeds.items() if fp in runs and (runs[fp].folder / "model" / WEIGHTS).is_file()]
    if not kept:
        raise UserError(
            f"{task}: {best.method} is the best method, but the weights of none of its {len(seeds)} seeds are here "
            f"(machine.keep_models: {study.params.machine.keep_models}); `dvc pull` them, or keep them, delete "
            f"{next(iter(runs.values())).folder.parent} and run again"
        )
    chosen = max(kept, key=lambda score: sign * _value(score))
    return Choice(
        run=runs[chosen.fingerprint],
        cell=best,
        metric=metric,
        candidates=tuple(
            Candidate(cell.method, cell.title, known.mean, known.seeds, len(cell.runs))
            for cell in ranked
            for known in [numbers.summary(cell)]
        ),
        method_given=wish.method is not None,
        summary=numbers.summary(best),
        std=sample_std([_value(score) for score in seeds.values()]),
        values=tuple(_value(score) for score in seeds.values()),
        value=_value(chosen),
        kept=len(kept),
    )


def settled(study: Study, wish: Wish) -> Wish:
    """Return a wish without the depth and size that are taken anyway: who asks for these gets the same export."""
    return Wish(
        wish.method,
        None if wish.depth == shown_depth(study) else wish.depth,
        None if str(wish.examples) == shown_size(study) else wish.examples,
    )


def sample_std(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation; None for a single value."""
    import statistics

    return statistics.stdev(values) if len(values) > 1 else None


def _value(score: Score) -> float:
    assert score.value is not None
    return score.value


def _candidates(study: Study, numbers: Numbers, task: str, wish: Wish) -> list[Cell]:
    depth = shown_depth(study) if wish.depth is None else wish.depth
    size = shown_size(study) if wish.examples is None else str(wish.examples)
    _known("method", wish.method, list(study.methods))
    _known("depth", depth, list(study.params.study.depths))
    _known("size", size, [FULL if n == FULL else str(n) for n in study.params.study.examples])
    return [
        cell
        for cell in numbers.cells
        if cell.task == task
        and not cell.is_teacher
        and (cell.depth, cell.examples) == (depth, size)
        and wish.method in (None, cell.method)
    ]


def _known(what: str, value: object, known: Sequence[object]) -> None:
    if value is not None and value not in known:
        names = [str(item) for item in known]
        raise UserError(f"unknown {what} {str(value)!r}{nearest(str(value), names)}; the study has: {', '.join(names)}")
