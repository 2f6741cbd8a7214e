"""measure_fidelity: students beside the teacher they learned from, and every run's confidence beside its accuracy.

Writes fidelity, fidelity_comparisons and calibration as .csv, .md and .tex, reliability.csv and, last, fidelity.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np

from internal_kd.analysis.built import recorded_key, tables_folder
from internal_kd.analysis.calibration import write_calibration
from internal_kd.analysis.cells import Cell, cells_of
from internal_kd.analysis.comparisons import scored_evidence
from internal_kd.analysis.csv_files import write_csv
from internal_kd.analysis.fidelity import (
    Likeness,
    Resampled,
    ResampledMethod,
    bootstrap_students,
    bootstrap_values,
    likeness,
    odds_ratio,
    resample_seeds,
)
from internal_kd.analysis.fidelity_rows import FidelityComparison, FidelityRow
from internal_kd.analysis.fidelity_text import fidelity_comparisons_text, fidelity_text, sentences
from internal_kd.analysis.predictions import Evidence, FinishedRun, TaskFacts, logits_of
from internal_kd.analysis.resampling import difference_interval, joint_interval
from internal_kd.analysis.statistics import holm, is_compared, joint_p, mcnemar_p
from internal_kd.analysis.text_tables import write_text_table
from internal_kd.artefacts import Run, StudentRun
from internal_kd.files import remove, write_json
from internal_kd.study import Study

Array = np.ndarray


@dataclass(frozen=True)
class Pupils:
    """A cell's finished seeds beside one teacher: answers (N,) each, what was found, and the resampled means."""

    cell: Cell
    row: FidelityRow
    seeds: tuple[int, ...]
    repeats: tuple[Array, ...]
    resampled: ResampledMethod | None


def measure_fidelity(study: Study) -> Path:
    """Measure how students resemble their teachers and how calibrated all are; returns the path of fidelity.csv.

    Raises:
        UserError: there are no scores, or the runs have changed since.
    """
    key, evidence, folder = recorded_key(study), scored_evidence(study), tables_folder(study)
    remove(folder / "fidelity.json")
    pupils = [found for facts in evidence.tasks.values() for found in _pupils_of_task(study, evidence, facts)]
    rows = _corrected([p.row for p in pupils])
    comparisons = _compare(pupils)
    write_csv(folder / "fidelity.csv", [f.name for f in fields(FidelityRow)], [astuple(row) for row in rows])
    columns = [f.name for f in fields(FidelityComparison)]
    write_csv(folder / "fidelity_comparisons.csv", columns, [astuple(c) for c in comparisons])
    tables = {
        "fidelity": fidelity_text(evidence.tasks, rows),
        "fidelity_comparisons": fidelity_comparisons_text(evidence.tasks, comparisons),
        "calibration": write_calibration(study, evidence),
    }
    for name, table in tables.items():
        write_text_table(folder, name, table)
    said = sentences(evidence.tasks, rows, comparisons)
    runs = [finished.run.fingerprint for finished in evidence.finished.values()]
    laid_out = {name: asdict(table) for name, table in tables.items()}
    write_json(folder / "fidelity.json", {"key": key, "runs": runs, "sentences": said, "tables": laid_out})
    return folder / "fidelity.csv"


def teacher_of(study: Study, run: Run) -> Run:
    """Return the teacher whose outputs a student learned from; for one without, the teacher the others have."""
    if isinstance(run, StudentRun) and run.outputs:
        return run.outputs.teacher
    seed = study.params.teacher.teaching_seed
    return next(teacher for teacher in study.teachers if (teacher.task, teacher.seed) == (run.task, seed))


def _pupils_of_task(study: Study, evidence: Evidence, facts: TaskFacts) -> list[Pupils]:
    cells = [cell for cell in cells_of(study) if cell.task == facts.name]
    teacher = evidence.finished.get(str(_one_teacher(study, cells).folder))
    students = {cell.key: _students_of(cell, teacher, evidence) for cell in cells}
    found = []
    for split in dict.fromkeys(split for _, _, split in facts.scored):
        resampled = _resampled(facts, split, teacher, [run for runs in students.values() for run in runs])
        for number, cell in enumerate(cells):
            own = students[cell.key]
            if not cell.is_teacher or own:
                drawn = [resampled[str(run.run.folder)] for run in own] if resampled else []
                over_seeds = resample_seeds(drawn, number) if drawn else None
                found.append(_pupils(cell, split, teacher, own, facts, over_seeds))
    return found


def _one_teacher(study: Study, cells: Sequence[Cell]) -> Run:
    # A study has one teaching teacher a task, so one set of draws serves all of a task's students.
    (teacher,) = {teacher_of(study, run).folder: teacher_of(study, run) for c in cells for run in c.runs}.values()
    return teacher


def _students_of(cell: Cell, teacher: FinishedRun | None, evidence: Evidence) -> list[FinishedRun]:
    # The teaching teacher is no student of itself; those of other seeds show how alike two teachers are.
    wanted = [run for run in cell.runs if teacher and run.folder != teacher.run.folder]
    return [evidence.finished[str(run.folder)] for run in wanted if str(run.folder) in evidence.finished]


def _resampled(
    facts: TaskFacts, split: str, teacher: FinishedRun | None, students: Sequence[FinishedRun]
) -> dict[str, Resampled]:
    if teacher is None or not students:
        return {}
    of_teacher, *of_students = (logits_of(run, split) for run in (teacher, *students))
    if facts.regression:
        found = bootstrap_values(of_teacher, of_students)
    else:
        labels = teacher.predictions[split]["label"].to_numpy(int)
        found = bootstrap_students(labels, of_teacher, of_students, facts.classes)
    return {str(student.run.folder): one for student, one in zip(students, found, strict=True)}


def _pupils(
    cell: Cell,
    split: str,
    teacher: FinishedRun | None,
    students: Sequence[FinishedRun],
    facts: TaskFacts,
    over_seeds: ResampledMethod | None,
) -> Pupils:
    row = FidelityRow(cell.task, split, cell.id, cell.method, cell.depth, cell.examples, len(students))
    if teacher is None or over_seeds is None:
        return Pupils(cell, row, (), (), None)
    seeds = tuple(student.run.seed for student in students)
    row = replace(row, teacher=teacher.run.fingerprint)
    of_teacher, *of_students = (logits_of(run, split) for run in (teacher, *students))
    if facts.regression:
        squared = [float(np.mean((of_teacher - logits) ** 2)) for logits in of_students]
        row = replace(row, divergence_kind="mse", divergence=_mean(squared), divergence_std=_std(squared))
        return Pupils(cell, row, seeds, (), over_seeds)
    labels = teacher.predictions[split]["label"].to_numpy(int)
    like = [likeness(labels, of_teacher, logits) for logits in of_students]
    said, answers = of_teacher.argmax(axis=1), [logits.argmax(axis=1) for logits in of_students]
    repeats = tuple((answer == said)[said != labels] for answer in answers)
    ratio = odds_ratio(labels, said, answers, facts.classes)
    return Pupils(cell, _measured(row, like, ratio, over_seeds), seeds, repeats, over_seeds)


def _measured(row: FidelityRow, like: Sequence[Likeness], ratio: float | None, over: ResampledMethod) -> FidelityRow:
    counts = {
        name: sum(getattr(one, name) for one in like)
        for name in ("both_right", "only_teacher_right", "only_student_right", "both_wrong")
    }
    agreement, kl = [one.agreement for one in like], [one.kl for one in like]
    row = replace(
        row, **counts, agreement=_mean(agreement), agreement_std=_std(agreement), divergence_kind="kl",
        divergence=_mean(kl), divergence_std=_std(kl), teacher_mistakes=like[0].repeated.mistakes,
    )  # fmt: skip
    if like[0].repeated.mistakes == 0:
        return row
    repeated = _mean([one.repeated.observed / one.repeated.mistakes for one in like])
    chance = _mean([one.repeated.expected / one.repeated.mistakes for one in like])
    low, high = joint_interval(np.positive, [over.excess]) or (None, None)
    ratio_low, ratio_high = (over.odds_ratio_interval if ratio is not None else None) or (None, None)
    row = replace(
        row, repeated=repeated, by_chance=chance, excess=repeated - chance, excess_low=low, excess_high=high,
        odds_ratio=ratio, odds_ratio_low=ratio_low, odds_ratio_high=ratio_high,
        p_repeated=joint_p([one.repeated.p for one in like]),
    )  # fmt: skip
    same = [one.same_wrong for one in like if one.same_wrong and one.same_wrong.mistakes]
    if not same:
        return row
    return replace(
        row,
        same_wrong=_mean([s.observed / s.mistakes for s in same]),
        same_wrong_by_chance=_mean([s.expected / s.mistakes for s in same]),
        p_same_wrong=joint_p([s.p for s in same]),
    )


def _corrected(rows: Sequence[FidelityRow]) -> list[FidelityRow]:
    repeated, same = holm([row.p_repeated for row in rows]), holm([row.p_same_wrong for row in rows])
    return [
        replace(row, p_repeated_holm=p, p_same_wrong_holm=q) for row, p, q in zip(rows, repeated, same, strict=True)
    ]


def _compare(pupils: Sequence[Pupils]) -> list[FidelityComparison]:
    found = [
        _compare_pair(arm, baseline)
        for arm in pupils
        for baseline in pupils
        if arm.row.split == baseline.row.split and is_compared(arm.cell, baseline.cell)
    ]
    return [replace(c, p_holm=p) for c, p in zip(found, holm([c.p for c in found]), strict=True)]


def _compare_pair(arm: Pupils, baseline: Pupils) -> FidelityComparison:
    matched = sorted(set(arm.seeds) & set(baseline.seeds)) if arm.repeats and baseline.repeats else []
    a, b, known = arm.row, baseline.row, arm.row.repeated is not None and baseline.row.repeated is not None
    values = [
        mcnemar_p(arm.repeats[arm.seeds.index(seed)], baseline.repeats[baseline.seeds.index(seed)]) for seed in matched
    ]
    return FidelityComparison(
        a.task, a.split, a.depth, a.examples, a.id, a.method, b.id, b.method, a.seeds, b.seeds, len(matched),
        *_difference(arm, baseline, "agreement"),
        a.divergence_kind or b.divergence_kind,
        *_difference(arm, baseline, "divergence"),
        *_difference(arm, baseline, "repeated"),
        *_difference(arm, baseline, "excess"),
        test="mcnemar", p=joint_p(values) if known else None, p_holm=None,
    )  # fmt: skip


def _difference(arm: Pupils, baseline: Pupils, name: str) -> tuple[float | None, float | None, float | None]:
    """Return the difference of a quantity of both rows with its interval, None where a row has none."""
    a, b = (getattr(pupils.row, name) for pupils in (arm, baseline))
    if a is None or b is None:
        return None, None, None
    spreads = (getattr(pupils.resampled, name) for pupils in (arm, baseline))
    return a - b, *(difference_interval(*spreads) or (None, None))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _std(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
