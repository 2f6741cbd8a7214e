"""Calibration: whether a model that gives 0.9 is right nine times in ten.

Expected calibration error after Guo et al. 2017, "On calibration of modern neural networks", equation 3: confidence is
the highest softmax probability, examples fall into 15 bins of equal width over (0, 1], and the error is the mean
distance between a bin's accuracy and its mean confidence, weighted by the examples in it.

Shapes: N examples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from internal_kd.errors import UserError

Array: TypeAlias = np.ndarray

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """How well a method's confidence fits its accuracy.

    Attributes:
        errors: each seed's expected calibration error, a fraction.
        confidence: mean over seeds and examples.
        accuracy: mean over seeds and examples; a confidence above it is overconfidence.
    """

    errors: tuple[float, ...]
    confidence: float
    accuracy: float

    @property
    def error(self) -> float:
        """Mean expected calibration error over seeds."""
        return float(np.mean(self.errors))

    @property
    def std(self) -> float:
        """Sample standard deviation of the error over seeds; NaN for one seed."""
        return float(np.std(self.errors, ddof=1)) if len(self.errors) > 1 else math.nan


def calibration(labels: Any, seeds: Sequence[Any]) -> Calibration:
    """Return a method's calibration.

    Args:
        labels: gold classes, (N,).
        seeds: each seed's logits, (N, K).

    Raises:
        UserError: the arrays do not fit each other, or the logits contain NaN.

    Example:
        >>> calibration(labels, [first_seed_logits, second_seed_logits]).error
        0.041
    """
    gold, found = checked_logits(labels, seeds)
    sure = [confidences(logits) for logits in found]
    right = [logits.argmax(axis=1) == gold for logits in found]
    return Calibration(
        errors=tuple(expected_calibration_error(*one) for one in zip(sure, right, strict=True)),
        confidence=float(np.mean(sure)),
        accuracy=float(np.mean(right)),
    )


def checked_logits(labels: Any, models: Sequence[Any]) -> tuple[Array, list[Array]]:
    """Return gold classes (N,), and each model's logits (N, K), as arrays.

    Raises:
        UserError: there are none, they do not fit each other, or they contain NaN.
    """
    gold, found = np.asarray(labels), [np.asarray(logits) for logits in models]
    shapes = [logits.shape for logits in found]
    if not found or len(shapes[0]) != 2 or len(gold) != shapes[0][0] or len(set(shapes)) > 1:
        raise UserError(f"{len(gold)} labels and logits of shapes {shapes}; give (N, K), of all models alike")
    if any(np.isnan(logits).any() for logits in found):
        raise UserError("the logits contain NaN")
    return gold, found


def confidences(logits: Array) -> Array:
    """Return the highest softmax probability of every example, (N,), for logits (N, K)."""
    from scipy.special import softmax

    return softmax(logits.astype(float), axis=1).max(axis=1)


def mean_entropy(logits: Array) -> float:
    """Return the mean entropy of the predictions in nats, for logits (N, K): how unsure a model is on average."""
    from scipy.special import log_softmax

    logs = log_softmax(logits.astype(float), axis=1)
    return float(-(np.exp(logs) * logs).sum(1).mean())


def confidence_diversity(labels: Any, logits: Array) -> float:
    """Return the differential entropy of the gold label's probability over examples, in nats; 0 for a uniform one.

    How differently sure a model is of different examples: the confidence diversity of Zhang and Sabuncu 2020 (arXiv
    2006.05065). Spacings of the sorted values (Vasicek 1976) estimate it; what rounding makes equal is held 1e-9 apart.

    Args:
        labels: gold classes, (N,).
        logits: (N, K).

    Example:
        >>> even = np.log(np.linspace(0.001, 0.999, 999))[:, None]
        >>> round(confidence_diversity(np.zeros(999, int), np.hstack([even, np.log1p(-np.exp(even))])), 1)
        -0.0
    """
    from scipy.special import softmax
    from scipy.stats import differential_entropy

    gold = np.sort(softmax(logits.astype(float), axis=1)[np.arange(len(logits)), np.asarray(labels)])
    return float(differential_entropy(gold + 1e-9 * np.arange(len(gold)), method="vasicek"))


def expected_calibration_error(confidence: Array, right: Array, bins: int = BINS) -> float:
    """Return the expected calibration error, a fraction, for confidences and correct answers, both (N,)."""
    inside = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    at = np.unique(inside, return_inverse=True)[1]
    counts = np.bincount(at)
    sure, correct = (np.bincount(at, values) / counts for values in (confidence, right))
    return float(sum(counts * np.abs(correct - sure)) / len(confidence))
