"""The lines of the fidelity tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FidelityRow:
    """A cell beside its teacher on one dev set: means over seeds, shares in natural units, None where undefined.

    The four counts are summed over seeds. ``divergence`` is KL(teacher || student) in nats or, for regression, the mean
    squared difference of the predictions. ``repeated`` is the share of the teacher's mistakes to which the student
    gives the teacher's answer, ``by_chance`` what its own errors would make of it within each gold label, ``excess``
    the difference with its interval over examples and seeds. ``same_wrong`` is the share of the teacher's answer among
    the examples both get wrong, for more than two classes. ``teacher`` is the teaching run's fingerprint.
    """

    task: str
    split: str
    id: str
    method: str
    depth: int | None
    examples: str
    seeds: int
    both_right: int | None = None
    only_teacher_right: int | None = None
    only_student_right: int | None = None
    both_wrong: int | None = None
    agreement: float | None = None
    agreement_std: float | None = None
    divergence_kind: str = ""
    divergence: float | None = None
    divergence_std: float | None = None
    teacher_mistakes: int | None = None
    repeated: float | None = None
    by_chance: float | None = None
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    odds_ratio: float | None = None
    odds_ratio_low: float | None = None
    odds_ratio_high: float | None = None
    p_repeated: float | None = None
    p_repeated_holm: float | None = None
    same_wrong: float | None = None
    same_wrong_by_chance: float | None = None
    p_same_wrong: float | None = None
    p_same_wrong_holm: float | None = None
    teacher: str = ""


@dataclass(frozen=True)
class FidelityComparison:
    """A method against a baseline: differences in nearness to the teacher and in the teacher's mistakes repeated.

    ``agreement``, ``divergence``, ``repeated`` and ``excess`` are differences of a FidelityRow's, with the bootstrap's
    intervals; None where undefined. Test: exact McNemar over the teacher's mistakes, for each pair of equal seeds.
    """

    task: str
    split: str
    depth: int | None
    examples: str
    id: str
    method: str
    baseline_id: str
    baseline: str
    seeds: int
    baseline_seeds: int
    matched_seeds: int
    agreement: float | None
    agreement_low: float | None
    agreement_high: float | None
    divergence_kind: str
    divergence: float | None
    divergence_low: float | None
    divergence_high: float | None
    repeated: float | None
    repeated_low: float | None
    repeated_high: float | None
    excess: float | None
    excess_low: float | None
    excess_high: float | None
    test: str
    p: float | None
    p_holm: float | None
