"""The tables of comparisons: rows with baselines, over tasks, and with their teachers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np

from internal_kd.report.cells import Cell, baselines_of, counterpart, primary_rows
from internal_kd.report.results import FinishedRun, StudyResults
from internal_kd.report.scoring import Lines
from internal_kd.statistics import (
    SCOPES,
    Comparison,
    Fidelity,
    Lead,
    Mean,
    Scope,
    calibration,
    confidence_diversity,
    distance,
    fidelity,
    holm,
    holm_level,
    lead,
    mcnemar,
    mean_entropy,
    pool,
    reading,
)
from internal_kd.tasks.info import ScoreColumn
from internal_kd.tasks.kinds import KINDS

PRIMARY, SECONDARY = "primary", "secondary"
NOT_RUN = "not run"
QUARTERS = ("both_right", "only_teacher_right", "only_student_right", "both_wrong")


@dataclass(frozen=True)
class Compared:
    """A row against a baseline under one column of scores; ``lead`` is None while one of them has no finished run."""

    cell: Cell
    baseline: Cell
    column: ScoreColumn
    family: str
    lead: Comparison | None


def compare_cells(results: StudyResults) -> list[Compared]:
    """Return every comparison of a study: its question, and rows against the baselines of the appendix."""
    margin = results.study.params.analysis.margin / 100
    rows, baseline = primary_rows(results.study)
    found = []
    for cell, column in results.scored_cells():
        if not cell.is_student and cell.method.name not in rows:
            continue
        asked = (baseline,) if baseline and cell.method.name in rows else ()
        for name in dict.fromkeys((*asked, *baselines_of(results.study, cell.method))):
            other = counterpart(cell, name, results.cells)
            if other is None:
                continue
            is_main = name in asked and column == results.task(cell).info.columns[0]
            theirs, ours = results.mean(other, column), results.mean(cell, column)
            compared = lead(theirs, ours, margin) if theirs and ours else None
            found.append(Compared(cell, other, column, PRIMARY if is_main else SECONDARY, compared))
    return found


def comparison_lines(results: StudyResults, compared: Iterable[Compared]) -> Lines:
    """Return the table of comparisons, both scopes of each, corrected after Holm within family and scope."""
    compared, alpha = list(compared), results.study.params.analysis.alpha
    corrected: dict[tuple[int, Scope], float] = {}
    # What the p of a comparison of the study's question has to be below within its family.
    levels: dict[tuple[int, Scope], float] = {}
    for family in (PRIMARY, SECONDARY):
        own = [place for place, one in enumerate(compared) if one.family == family]
        for scope in SCOPES:
            ps = [_p(compared[place].lead, scope) for place in own]
            corrected |= {(place, scope): p for place, p in zip(own, holm(ps), strict=True)}
            if family == PRIMARY:
                levels |= {(place, scope): holm_level(ps, at, alpha) for at, place in enumerate(own)}
    lines = []
    for place, one in enumerate(compared):
        common = {
            **one.cell.columns(), "metric": one.column.name, "baseline": one.baseline.method.name,
            "baseline_id": one.baseline.id, "family": one.family, "seeds": len(results.finished(one.cell)),
            "baseline_seeds": len(results.finished(one.baseline)),
            "p_predictions": _paper_p(results, one) if one.lead else None,
        }  # fmt: skip
        for scope, title in SCOPES.items():
            found = _in_scope(one.lead, scope, corrected[place, scope], alpha, levels.get((place, scope)))
            lines.append(common | {"scope": title} | found)
    return lines


def _p(result: Lead | None, scope: Scope) -> float:
    return nan if result is None or result.one_seed else result.estimate(scope).p


def _in_scope(
    result: Lead | None, scope: Scope, p_holm: float, alpha: float, level: float | None = None
) -> dict[str, Any]:
    """Return difference, interval, p and reading of a lead in one scope, and what would show it at a level."""
    if result is None:
        return {"reading": NOT_RUN}
    low, high = result.estimate(scope).interval(result.confidence)
    found: dict[str, Any] = {
        "difference": result.difference, "low": low, "high": high, "p": _p(result, scope), "p_holm": p_holm,
        "reading": reading(result, scope, p_holm, alpha),
    }  # fmt: skip
    if level is not None and not result.one_seed and not isnan(p_holm):
        found |= {"seeds_needed": result.seeds_needed(scope, level), "smallest": result.smallest_lead(scope, level)}
    return found


def _paper_p(results: StudyResults, one: Compared) -> float | None:
    """Return the paper's test: the median over pairs of equal seeds."""
    if one.column.metric != "accuracy":
        return None
    found = paired_tests(results, one.baseline, one.cell, one.column.split)
    return float(np.median([p for p, _ in found])) if found else None


def paired_tests(results: StudyResults, baseline: Cell, cell: Cell, split: str = "dev") -> list[tuple[float, float]]:
    """Return the paper's test of every seed that both cells have: McNemar's p, and how many more it gets right."""
    own = [{run.run.seed: run.predicted(split) for run in results.finished(one)} for one in (baseline, cell)]
    labels = results.task(cell).labels(split)
    pairs = [(own[0][seed], own[1][seed]) for seed in sorted(set(own[0]) & set(own[1]))]
    gains = [float((ours == labels).sum() - (theirs == labels).sum()) for theirs, ours in pairs]
    return list(zip(mcnemar(labels, *map(np.stack, zip(*pairs, strict=True))), gains, strict=True)) if pairs else []


def pooled_lines(results: StudyResults, compared: Iterable[Compared]) -> Lines:
    """Return the mean lead over tasks of every row of the study's question, corrected after Holm within each scope.

    A row has a line only if it can be compared on every task, and if all main metrics are better when higher.
    """
    groups: dict[tuple[str, ...], list[Compared]] = {}
    for one in compared:
        if one.family == PRIMARY:
            groups.setdefault((*one.cell.row, one.baseline.method.name), []).append(one)
    tasks, alpha, found = len(results.study.tasks), results.study.params.analysis.alpha, []
    for own in groups.values():
        leads = [one.lead for one in own if one.lead is not None]
        if len(leads) == tasks > 1 and all(result.higher_is_better for result in leads):
            found.append((own[0], pool(leads)))
    lines = []
    for scope, title in SCOPES.items():
        ps = holm([_p(result, scope) for _, result in found])
        for (one, result), p in zip(found, ps, strict=True):
            other = {"baseline": one.baseline.method.name, "baseline_id": one.baseline.id}
            named = one.cell.columns() | other | {"scope": title, "tasks": tasks}
            lines.append(named | _in_scope(result, scope, p, alpha))
    return lines


# With the teacher


@dataclass(frozen=True)
class TeacherComparison:
    """A cell's finished runs compared with one teacher on one dev set."""

    cell: Cell
    split: str
    teacher: FinishedRun
    seeds: int
    found: Fidelity | Mean

    @property
    def quantities(self) -> dict[str, Mean]:
        """The quantities that two rows can be compared by."""
        if isinstance(self.found, Mean):
            return {"divergence": self.found}
        return {name: getattr(self.found, name) for name in ("agreement", "divergence", "repeated", "excess")}


def compare_with_teachers(results: StudyResults) -> list[TeacherComparison]:
    """Return every cell compared with its teacher; of teachers, the other seeds with the first."""
    found = []
    for cell in results.cells:
        task = results.task(cell)
        pairs = [(results.teacher_run(run.run), run) for run in results.finished(cell)]
        pairs = [(teacher, run) for teacher, run in pairs if teacher and teacher is not run]
        teacher = pairs[0][0] if pairs else None
        # A row that each seed is taught by another teacher is compared with the first of them.
        students = [run for of_run, run in pairs if of_run is teacher]
        for split in task.dev if teacher else ():
            assert teacher is not None
            if task.info.kind == "values":
                near: Fidelity | Mean = distance(
                    teacher.predicted(split), np.stack([s.predicted(split) for s in students])
                )
            else:
                # The words of a sentence depend on each other.
                sentences = task.rows(split)["idx"] if KINDS[task.info.kind].row == "token" else None
                logits = [student.logits[split] for student in students]
                near = fidelity(task.row_labels(split), teacher.logits[split], logits, sentences)
            found.append(TeacherComparison(cell, split, teacher, len(students), near))
    return found


def fidelity_lines(taught: Iterable[TeacherComparison]) -> Lines:
    """Return the table of rows compared with their teachers, p corrected after Holm."""
    lines = []
    for one in taught:
        line: dict[str, Any] = one.cell.columns() | {"split": one.split, "seeds": one.seeds}
        kind = "mse" if isinstance(one.found, Mean) else "kl"
        line |= {"teacher_run": one.teacher.run.fingerprint, "divergence_kind": kind}
        for name, mean in one.quantities.items():
            line |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
        if isinstance(one.found, Fidelity):
            wrong = [shared for shared in one.found.shared if shared.mistakes]
            line |= {name: getattr(one.found, name) for name in QUARTERS}
            line |= {"teacher_mistakes": one.found.shared[0].mistakes, "p_repeated": _median_p([s.p for s in wrong])}
            line["by_chance"] = float(np.mean([s.by_chance / s.mistakes for s in wrong])) if wrong else nan
        lines.append(line)
    for line, p in zip(lines, holm([line.get("p_repeated", nan) for line in lines]), strict=True):
        line["p_repeated_holm"] = p
    return lines


def _median_p(ps: Sequence[float]) -> float:
    # Twice the median of dependent p values is valid however they depend (Meinshausen, Meier and Buehlmann 2009).
    return nan if not ps else ps[0] if len(ps) == 1 else float(np.minimum(1.0, 2 * np.median(ps)))


def calibration_lines(results: StudyResults) -> Lines:
    """Return the calibration of every cell with classes, or with tags, whose words count one by one."""
    lines = []
    for cell in results.cells:
        task = results.task(cell)
        for split in task.dev if task.info.kind != "values" and results.finished(cell) else ():
            labels, seeds = task.row_labels(split), [run.logits[split] for run in results.finished(cell)]
            found = calibration(labels, seeds)
            means = {"confidence": found.confidence, "accuracy": found.accuracy, "ece": found.error}
            more = {"split": split, "seeds": len(found.errors), "ece_std": found.std}
            more["entropy"] = float(np.mean([mean_entropy(logits) for logits in seeds]))
            more["diversity"] = float(np.mean([confidence_diversity(labels, logits) for logits in seeds]))
            lines.append(cell.columns() | means | more)
    return lines
