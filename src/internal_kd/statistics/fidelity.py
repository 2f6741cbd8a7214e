"""How a student resembles its teacher: agreement, divergence, and the teacher's mistakes that it repeats.

Two models that never met share mistakes too, because some examples are hard and some classes are favoured. So repeated
mistakes are compared with what chance makes of both models' answers within each gold label. The test is the
generalised Cochran-Mantel-Haenszel test with gold labels as strata (Mantel and Haenszel 1959; Landis, Heyman and
Koch 1978).

Shapes: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, nan
from typing import Any, TypeAlias

import numpy as np

from internal_kd.errors import UserError
from internal_kd.statistics.calibration import checked_logits
from internal_kd.statistics.means import Mean, mean_of
from internal_kd.tasks.metrics import checked

Array: TypeAlias = np.ndarray


@dataclass(frozen=True)
class SharedMistakes:
    """The teacher's mistakes that one student repeats: the same wrong answer to the same example.

    Attributes:
        mistakes: how many the teacher makes.
        repeated: how many of them the student repeats.
        by_chance: how many it would repeat if the two models' answers had nothing in common within each gold label.
        variance: of that number, by chance; NaN if rows depend on each other.
    """

    mistakes: int
    repeated: int
    by_chance: float
    variance: float

    @property
    def p(self) -> float:
        """Two-sided p of "no more and no fewer than by chance", with continuity correction; NaN without a variance."""
        from scipy.special import ndtr

        if self.variance <= 0:
            return 1.0
        distance = max(0.0, abs(self.repeated - self.by_chance) - 0.5)
        return float(2 * ndtr(-distance / np.sqrt(self.variance)))


@dataclass(frozen=True)
class Fidelity:
    """A method's students compared with their teacher.

    Two methods are compared by ``lead(one.agreement, other.agreement)``, and so on.

    Attributes:
        both_right: examples, summed over seeds; and so are the next three.
        only_teacher_right: the student is wrong.
        only_student_right: the teacher is wrong.
        both_wrong: with the same or with different answers.
        agreement: share of examples with the same answer.
        divergence: KL(teacher || student) in nats, at temperature 1.
        repeated: share of the teacher's mistakes that are repeated.
        excess: that share less the share that chance would repeat; NaN if the teacher makes no mistake.
        shared: each seed's repeated mistakes.
    """

    both_right: int
    only_teacher_right: int
    only_student_right: int
    both_wrong: int
    agreement: Mean
    divergence: Mean
    repeated: Mean
    excess: Mean
    shared: tuple[SharedMistakes, ...]


def fidelity(labels: Any, teacher: Any, students: Sequence[Any], groups: Any = None) -> Fidelity:
    """Compare a method's students with their teacher on a task of classes or tags.

    Args:
        labels: gold classes, (N,).
        teacher: the teacher's logits, (N, K).
        students: each seed's logits, (N, K).
        groups: what depends on each other, such as the words of a sentence, by number, (N,). Intervals are then over
            groups, and there is no p of shared mistakes. None: every row stands alone.

    Raises:
        UserError: the arrays do not fit each other, or the logits contain NaN.

    Example:
        >>> found = fidelity(labels, teacher_logits, [first_seed_logits, second_seed_logits])
        >>> found.agreement.mean, found.excess.low, found.excess.high
        (0.93, 0.21, 0.34)
    """
    labels, (teacher, *seeds) = checked_logits(labels, [teacher, *students])
    if not seeds:
        raise UserError("there are no students to compare with their teacher")
    answer, *answers = (logits.argmax(1) for logits in (teacher, *seeds))
    found = [_Repeats.of(labels, answer, own) for own in answers]
    right, wrong = answer == labels, answer != labels
    own_right = np.stack([own == labels for own in answers])
    both_wrong = wrong & ~own_right
    shared = tuple(repeats.shared for repeats in found)
    measured = partial(_measured, groups=None if groups is None else np.unique(groups, return_inverse=True)[1])
    return Fidelity(
        both_right=int((right & own_right).sum()),
        only_teacher_right=int((right & ~own_right).sum()),
        only_student_right=int((wrong & own_right).sum()),
        both_wrong=int(both_wrong.sum()),
        agreement=measured([_plain(own == answer) for own in answers], "agreement", bounds=(0.0, 1.0)),
        divergence=measured(
            [_plain(kl_to_teacher(teacher, logits)) for logits in seeds],
            "KL(teacher || student)", bounds=(0.0, inf), higher_is_better=False,
        ),
        repeated=measured([repeats.repeated_values() for repeats in found], "repeated mistakes", bounds=(0.0, 1.0)),
        excess=measured(
            [repeats.excess_values() for repeats in found], "mistakes repeated beyond chance", bounds=(-1.0, 1.0)
        ),
        shared=shared if groups is None else tuple(replace(one, variance=nan) for one in shared),
    )  # fmt: skip


def distance(teacher: Any, students: Any) -> Mean:
    """Return the mean squared distance of a method's students from their teacher on a task of values.

    Args:
        teacher: the teacher's predictions, (N,).
        students: each seed's predictions, (seeds, N).

    Raises:
        UserError: the arrays do not fit each other, or contain NaN or infinity.
    """
    teacher, students = checked("mse", teacher, students)
    squared = (students - teacher) ** 2
    return mean_of(squared, "squared distance", bounds=(0.0, inf), higher_is_better=False)


def kl_to_teacher(teacher: Array, student: Array) -> Array:
    """Return KL(teacher || student) in nats of every example, (N,), for logits (N, K), at temperature 1."""
    from scipy.special import log_softmax

    of_teacher, of_student = (log_softmax(logits.astype(float), axis=1) for logits in (teacher, student))
    return np.sum(np.exp(of_teacher) * (of_teacher - of_student), axis=1)


def shared_mistakes(labels: Array, teacher: Array, student: Array) -> SharedMistakes:
    """Count the mistakes that a student shares with its teacher; labels and both models' answers are (N,)."""
    return _Repeats.of(labels, teacher, student).shared


def _plain(values: Array) -> tuple[float, Array]:
    """Return the mean of what was measured of every row, and the values, (N,)."""
    return float(values.mean()), values


def _measured(seeds: Sequence[tuple[float, Array]], what: str, groups: Array | None, **limits: Any) -> Mean:
    """Return a mean over seeds from each one's score and each row's influence on it, (N,)."""
    scores, values = zip(*seeds, strict=True)
    if groups is not None:
        # What a group adds is the sum over its rows; scaled so that a mean over groups is the mean over rows.
        share = (groups.max() + 1) / len(groups)
        values = tuple(share * np.bincount(groups, own - own.mean()) for own in values)
    return mean_of(values, what, scores=scores, **limits)


@dataclass(frozen=True)
class _Repeats:
    """What is counted of one student: per example, and for its own gold label.

    ``same`` is whether it repeats a mistake, ``mistaken`` whether the teacher errs, (N,). For the example's label:
    ``size`` examples, ``products`` the sum over wrong answers of how often the teacher and how often the student gives
    it, and ``crossing`` how much of that goes with the example, (N,).
    """

    shared: SharedMistakes
    same: Array
    mistaken: Array
    size: Array
    products: Array
    crossing: Array

    @classmethod
    def of(cls, labels: Array, teacher: Array, student: Array) -> _Repeats:
        if not len(labels):
            none = np.zeros(0)
            return cls(SharedMistakes(0, 0, 0.0, 0.0), none, none, none, none, none)
        classes = 1 + int(max(labels.max(), teacher.max(), student.max()))
        size = np.bincount(labels, minlength=classes).astype(float)
        # Of all gold labels with all answers only those that occur, so that thousands of classes take little memory.
        codes, at = np.unique(np.stack([labels * classes + own for own in (teacher, student)]), return_inverse=True)
        at = at.reshape(2, -1)
        by_teacher, by_student = (np.bincount(own, minlength=len(codes)).astype(float) for own in at)
        of_label, of_wrong = codes // classes, codes % classes != codes // classes
        product = by_teacher * by_student * of_wrong
        products = np.bincount(of_label, product, minlength=classes)
        same = (teacher == student) & (teacher != labels)
        crossing = (by_student * of_wrong)[at[0]] + (by_teacher * of_wrong)[at[1]] - same
        n = size[of_label]
        own = np.bincount(of_label, product * (n - by_teacher) * (n - by_student), minlength=classes)
        pairs = products**2 - np.bincount(of_label, product**2, minlength=classes)
        variance = np.divide(own + pairs, size**2 * (size - 1), out=np.zeros(classes), where=size > 1)
        shared = SharedMistakes(
            mistakes=int((teacher != labels).sum()),
            repeated=int(same.sum()),
            by_chance=float((products / np.maximum(size, 1)).sum()),
            variance=float(variance.sum()),
        )
        return cls(shared, same, teacher != labels, size[labels], products[labels], crossing)

    def excess_values(self) -> tuple[float, Array]:
        """Return the share repeated beyond chance, and each example's influence on it, (N,)."""
        chance = self.shared.by_chance
        left = np.maximum(self.size - 1, 1)
        without = chance - self.products / self.size + (self.products - self.crossing) / left
        return self._influence(self.shared.repeated - chance, self.shared.repeated - self.same - without)

    def repeated_values(self) -> tuple[float, Array]:
        """Return the share of the teacher's mistakes that is repeated, and each example's influence on it, (N,)."""
        return self._influence(float(self.shared.repeated), self.shared.repeated - self.same)

    def _influence(self, count: float, count_without: Array) -> tuple[float, Array]:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.float64(count) / self.shared.mistakes
            without = count_without / (self.shared.mistakes - self.mistaken)
        return float(share), (len(without) - 1) * (without.mean() - without)
