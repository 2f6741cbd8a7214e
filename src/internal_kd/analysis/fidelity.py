"""How a student resembles its teacher, from both models' dev predictions: agreement, divergence, and shared mistakes.

Whether a student repeats its teacher's mistakes more than chance would make it is asked within each gold label: a
student that favours one class errs where every model that favours it errs, and learned nothing of its teacher by that.
Given the label, chance means that the student's answers and the teacher's have nothing to do with each other. The test
is the generalised Cochran-Mantel-Haenszel test (Mantel and Haenszel 1959; Landis, Heyman and Koch 1978) of the number
of mistakes that are repeated, gold labels as strata; for two classes it is the classic one of 2 x 2 tables. Seeds are
no further strata: they are tried on the same examples, so each is tested by itself.

Shapes: N examples, K classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from internal_kd.analysis.resampling import RESAMPLES, SEED, SeedMean, example_weights, joint_interval, seed_mean

Array = np.ndarray


@dataclass(frozen=True)
class Repetition:
    """How many of the teacher's mistakes a student repeats, and the mean and variance if it were by chance."""

    mistakes: int
    observed: int
    expected: float
    variance: float

    @property
    def p(self) -> float:
        """Two-sided p of the test, with continuity correction; 1 where the answers leave nothing to chance."""
        from scipy.stats import norm

        if self.variance <= 0:
            return 1.0
        distance = max(0.0, abs(self.observed - self.expected) - 0.5)
        return float(2 * norm.sf(distance / np.sqrt(self.variance)))


@dataclass(frozen=True)
class Likeness:
    """One student beside its teacher. ``same_wrong`` is of the examples both get wrong; None for two classes."""

    both_right: int
    only_teacher_right: int
    only_student_right: int
    both_wrong: int
    agreement: float
    kl: float
    repeated: Repetition
    same_wrong: Repetition | None


def likeness(labels: Array, teacher: Array, student: Array) -> Likeness:
    """Compare a student with its teacher on a classification task.

    ``labels`` has shape (N,), the logits of ``teacher`` and ``student`` (N, K).
    """
    classes = teacher.shape[1]
    said_t, said_s = teacher.argmax(1), student.argmax(1)
    right_t, right_s = said_t == labels, said_s == labels
    wrong = ~right_t & ~right_s
    same = repetition(labels[wrong], said_t[wrong], said_s[wrong], classes) if classes > 2 else None
    return Likeness(
        both_right=int(np.sum(right_t & right_s)),
        only_teacher_right=int(np.sum(right_t & ~right_s)),
        only_student_right=int(np.sum(~right_t & right_s)),
        both_wrong=int(np.sum(wrong)),
        agreement=float(np.mean(said_t == said_s)),
        kl=float(np.mean(kl_to_teacher(teacher, student))),
        repeated=repetition(labels, said_t, said_s, classes),
        same_wrong=same,
    )


def kl_to_teacher(teacher: Array, student: Array) -> Array:
    """Return KL(teacher || student) in nats of every example, (N,), for logits (N, K), at temperature 1."""
    from scipy.special import log_softmax

    of_teacher, of_student = log_softmax(teacher, axis=1), log_softmax(student, axis=1)
    return np.sum(np.exp(of_teacher) * (of_teacher - of_student), axis=1)


def repetition(labels: Array, teacher: Array, student: Array, classes: int) -> Repetition:
    """Count the examples where both give the same wrong answer, and what chance within each gold label expects.

    All three have shape (N,). With both models' answers per label held fixed, the counts are hypergeometric.
    """
    observed, expected, variance = 0, 0.0, 0.0
    for label in range(classes):
        of = labels == label
        n = int(of.sum())
        wrong = np.arange(classes) != label
        a, b = (np.bincount(said[of], minlength=classes)[wrong].astype(float) for said in (teacher, student))
        observed += int(np.sum(of & (teacher == student) & (teacher != label)))
        if n < 2:
            expected += float(np.sum(a * b))
            continue
        products = a * b
        own = products * (n - a) * (n - b)
        pairs = products.sum() ** 2 - (products**2).sum()
        expected += float(products.sum() / n)
        variance += float((own.sum() + pairs) / (n**2 * (n - 1)))
    return Repetition(int(np.sum(teacher != labels)), observed, expected, variance)


def odds_ratio(labels: Array, teacher: Array, students: Sequence[Array], classes: int) -> float | None:
    """Return the Mantel-Haenszel odds ratio of both being wrong, gold labels and seeds as strata.

    Above 1 the errors coincide. Infinite where no error is one's own; None where it would be 0 / 0.
    """
    weights = np.ones((1, len(labels)), dtype=np.float32)
    parts = [_counted(weights, _indicators(labels, teacher, student, classes), classes)[2:] for student in students]
    together, apart = np.sum(parts, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float((together / apart)[0])
    return None if np.isnan(ratio) else ratio


@dataclass(frozen=True)
class Resampled:
    """A student over resamples of the examples, (R,) each; NaN where undefined, as all but ``divergence`` of values.

    ``repeated`` and ``by_chance`` are shares of the teacher's mistakes, ``together`` and ``apart`` the odds' parts.
    """

    agreement: Array
    divergence: Array
    repeated: Array
    by_chance: Array
    together: Array
    apart: Array


@dataclass(frozen=True)
class ResampledMethod:
    """A method's means over seeds, jointly resampled; NaN where undefined. ``excess`` is repeated less by chance."""

    agreement: SeedMean
    divergence: SeedMean
    repeated: SeedMean
    excess: SeedMean
    together: SeedMean
    apart: SeedMean

    @property
    def odds_ratio_interval(self) -> tuple[float, float] | None:
        """95 % interval of the Mantel-Haenszel odds ratio, made of its logarithm so that no bound is below 0."""

        def log_ratio(together: Array, apart: Array) -> Array:
            known = (together > 0) & (apart > 0)
            return np.log(np.divide(together, apart, out=np.full_like(together, np.nan), where=known))

        bounds = joint_interval(log_ratio, [self.together, self.apart])
        return None if bounds is None else (float(np.exp(bounds[0])), float(np.exp(bounds[1])))


def bootstrap_means(values: Array, resamples: int = RESAMPLES) -> Array:
    """Return means over examples drawn with replacement, (R, ...) for values (N, ...), the same draws at every call."""
    draws = example_weights(len(values), resamples, np.random.default_rng(SEED))
    return np.concatenate([weights @ values for weights in draws]) / len(values)


def bootstrap_students(
    labels: Array, teacher: Array, students: Sequence[Array], classes: int, resamples: int = RESAMPLES
) -> list[Resampled]:
    """Resample the examples, with the same draws for every student and as in ``resampling.bootstrap_runs``.

    ``labels`` has shape (N,), the logits of ``teacher`` and each of ``students`` (N, K).
    """
    said, *answers = (logits.argmax(1) for logits in (teacher, *students))
    agreement = bootstrap_means(np.stack([said == own for own in answers], axis=1).astype(float), resamples)
    kl = bootstrap_means(np.stack([kl_to_teacher(teacher, logits) for logits in students], axis=1), resamples)
    indicators = [_indicators(labels, said, own, classes) for own in answers]
    draws = example_weights(len(labels), resamples, np.random.default_rng(SEED))
    chunks = [
        [_counted(weights, own, classes) for own in indicators]
        for weights in (weights.astype(np.float32) for weights in draws)
    ]
    counted = [
        [np.concatenate(parts) for parts in zip(*of_student, strict=True)] for of_student in zip(*chunks, strict=True)
    ]
    return [Resampled(agreement[:, at], kl[:, at], *parts) for at, parts in enumerate(counted)]


def bootstrap_values(teacher: Array, students: Sequence[Array], resamples: int = RESAMPLES) -> list[Resampled]:
    """Resample the examples of a regression task, for predictions (N, 1); ``divergence`` is the squared difference."""
    squared = bootstrap_means(np.concatenate([(teacher - own) ** 2 for own in students], axis=1), resamples)
    undefined = np.full(resamples, np.nan)
    return [Resampled(undefined, of_student, *[undefined] * 4) for of_student in squared.T]


def resample_seeds(seeds: Sequence[Resampled], number: int) -> ResampledMethod:
    """Resample the mean over seeds, jointly for every quantity; ``number`` sets the draws apart from other cells'."""

    def mean(parts: Sequence[Array]) -> SeedMean:
        return seed_mean(np.stack(parts), np.random.default_rng([SEED, number]))

    return ResampledMethod(
        mean([seed.agreement for seed in seeds]),
        mean([seed.divergence for seed in seeds]),
        mean([seed.repeated for seed in seeds]),
        mean([seed.repeated - seed.by_chance for seed in seeds]),
        mean([seed.together for seed in seeds]),
        mean([seed.apart for seed in seeds]),
    )


def _indicators(labels: Array, teacher: Array, student: Array, classes: int) -> Array:
    # What is counted of every example: (label, teacher's answer), (label, student's answer), whether both are wrong by
    # label, and whether they are so in the same way.
    one_hot, pairs = np.eye(classes, dtype=np.float32), np.eye(classes * classes, dtype=np.float32)
    wrong = (teacher != labels) & (student != labels)
    said = [pairs[labels * classes + answers] for answers in (teacher, student)]
    columns = [*said, one_hot[labels] * wrong[:, None], (wrong & (teacher == student))[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _counted(weights: Array, indicators: Array, classes: int) -> tuple[Array, Array, Array, Array]:
    # Shares repeated and by chance, the odds' parts. Weights and indicators in float32 count exactly up to 2^24.
    counts = (weights @ indicators).astype(float)
    tables, both, same = counts[:, : 2 * classes**2], counts[:, 2 * classes**2 : -1], counts[:, -1]
    of_teacher, of_student = (part.reshape(-1, classes, classes) for part in np.split(tables, 2, axis=1))
    off = ~np.eye(classes, dtype=bool)
    n = of_teacher.sum(2)
    wrong_t, wrong_s = (np.where(off, table, 0.0).sum(2) for table in (of_teacher, of_student))
    with np.errstate(divide="ignore", invalid="ignore"):
        mistakes = wrong_t.sum(1)
        chance = np.where(off, of_teacher * of_student, 0.0).sum(2)
        expected = np.where(n > 0, chance / n, 0.0).sum(1)
        neither = n - wrong_t - wrong_s + both
        together = np.where(n > 0, both * neither / n, 0.0).sum(1)
        apart = np.where(n > 0, (wrong_t - both) * (wrong_s - both) / n, 0.0).sum(1)
        return same / mistakes, expected / mistakes, together, apart
