"""A method's mean score over seeds, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from internal_kd.errors import UserError
from internal_kd.statistics.estimate import Estimate
from internal_kd.statistics.influence import influence
from internal_kd.statistics.variance import Crossed, Side
from internal_kd.tasks.metrics import METRICS, checked, classes_of


@dataclass(frozen=True)
class Mean:
    """A method's mean score, in natural units.

    Attributes:
        metric: what was measured.
        scores: each seed's score.
        side: the scores with each example's influence on them, from which ``lead`` compares two methods.
        bounds: lowest and highest possible score.
        higher_is_better: False for errors and distances.
        confidence: of the interval.
    """

    metric: str
    scores: tuple[float, ...]
    side: Side = field(repr=False, compare=False)
    bounds: tuple[float, float] = (-inf, inf)
    higher_is_better: bool = True
    confidence: float = 0.95

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.scores)

    @property
    def fewest_seeds(self) -> int:
        """Number of seeds, by the name that a comparison has for it."""
        return self.seeds

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.side.examples

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN if a seed's score is not defined."""
        return float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds; NaN for one seed."""
        return float(np.std(self.scores, ddof=1)) if self.seeds > 1 else math.nan

    @property
    def new(self) -> Estimate:
        """The mean with its error if seeds and examples are drawn again; with one seed, if examples alone are."""
        return scalar(self.mean, Crossed.of((1, self.side)).on_new_examples())

    @property
    def dev(self) -> Estimate:
        """The mean with its error if seeds alone are drawn again; the error is NaN for one seed."""
        return scalar(self.mean, Crossed.of((1, self.side)).on_this_dev_set())

    @property
    def low(self) -> float:
        """Lower end of the interval on new examples."""
        return self.new.interval(self.confidence)[0]

    @property
    def high(self) -> float:
        """Upper end of the interval on new examples."""
        return self.new.interval(self.confidence)[1]


def scalar(value: float, spread: tuple[Any, Any]) -> Estimate:
    """Return an estimate from a value and the variance and degrees of freedom of ``Crossed``."""
    variance, degrees = spread
    return Estimate(float(value), math.sqrt(variance), float(degrees))


def mean_score(
    labels: Any, predicted: Any, metric: str = "accuracy", *, classes: int | None = None, confidence: float = 0.95
) -> Mean:
    """Return a method's mean score over seeds.

    Args:
        labels: gold classes or values, (examples,).
        predicted: predicted classes or values, (seeds, examples); (examples,) is one seed.
        metric: a key of ``METRICS``.
        classes: number of classes; by default the highest that occurs and one, at least two.
        confidence: of the interval.

    Raises:
        UserError: the metric is unknown, or the arrays are not what it scores.

    Example:
        >>> mean_score([0, 1, 1, 0], [[0, 1, 1, 0], [0, 1, 0, 0]]).mean
        0.875
    """
    labels, predicted = checked(metric, labels, predicted)
    if predicted.ndim == labels.ndim:
        predicted = predicted[None]
    if predicted.ndim != labels.ndim + 1:
        raise UserError(f"{metric}: predictions of shape {predicted.shape}; give (seeds, examples)")
    if len(labels) < 2:
        raise UserError(f"{metric}: one example only; an interval needs two or more")
    number = classes_of(metric, labels, predicted, given=classes)
    found = [influence(metric, labels, seed, number) for seed in predicted]
    scores, of_examples = (np.array(part) for part in zip(*found, strict=True))
    chosen = METRICS[metric]
    side = Side(scores, of_examples)
    return Mean(metric, tuple(scores.tolist()), side, chosen.bounds, chosen.higher_is_better, confidence)


def mean_of(
    values: Any,
    what: str = "mean",
    *,
    bounds: tuple[float, float] = (-inf, inf),
    higher_is_better: bool = True,
    scores: Sequence[float] | None = None,
) -> Mean:
    """Return a mean over seeds of what was measured of every example, such as agreement with a teacher.

    Args:
        values: (seeds, examples); (examples,) is one seed.
        what: what was measured, for messages.
        bounds: lowest and highest possible value.
        higher_is_better: False for errors and distances.
        scores: each seed's score if that is not the mean of its values; the values are then its influence.

    Raises:
        UserError: fewer than two examples, or another number of axes.
    """
    values = np.atleast_2d(np.asarray(values, dtype=float))
    if values.ndim != 2 or values.shape[1] < 2 or not len(values):
        raise UserError(f"{what}: values of shape {values.shape}; give (seeds, examples) with two examples or more")
    means = values.mean(1)
    found = means if scores is None else np.asarray(scores, dtype=float)
    side = Side(found, values - means[:, None])
    return Mean(what, tuple(found.tolist()), side, bounds, higher_is_better)


def mean_of_seeds(scores: Any, what: str, *, higher_is_better: bool = True) -> Mean:
    """Return a mean of one number for each seed, (seeds,), with an error over seeds alone.

    Example:
        >>> mean_of_seeds([0.5, 0.7], "calibration error").mean
        0.6
    """
    found = np.asarray(scores, dtype=float)
    side = Side(found, np.zeros((len(found), 2)))
    return Mean(what, tuple(found.tolist()), side, higher_is_better=higher_is_better)
