"""Holm's correction, and the paper's own test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from internal_kd.errors import UserError
from internal_kd.tasks.metrics import checked


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979); NaN stays NaN and does not count.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(values) if not math.isnan(p))
    corrected = [math.nan] * len(values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[place] = largest
    return corrected


def holm_level(values: Sequence[float], place: int, alpha: float = 0.05) -> float:
    """Return what the p at a place has to be below to be rejected by Holm's method, if the others stay as they are.

    Example:
        >>> holm_level([0.001, 0.2, 0.3], 1)
        0.025
    """
    others = sorted(p for at, p in enumerate(values) if at != place and not math.isnan(p))
    left = len(others) + 1
    for p in others:
        if p * left >= alpha:
            break
        left -= 1
    return alpha / left


def mcnemar(labels: Any, baseline: Any, ours: Any) -> list[float]:
    """Return the paper's test: for each seed, the exact two-sided McNemar p of both methods' right and wrong answers.

    It asks whether these two models differ on these examples, so it says nothing about other seeds. The paper counts
    p < 0.001 as significant (Dror et al. 2018).

    Args:
        labels: gold classes, (examples,).
        baseline: the baseline's predicted classes, (seeds, examples); (examples,) is one seed.
        ours: the method's, the same seeds in the same order.

    Raises:
        UserError: the arrays do not fit each other.

    Example:
        >>> mcnemar([0] * 6, [[1] * 6], [[0] * 6])
        [0.03125]
    """
    from scipy.stats import binom

    gold, of_baseline = checked("accuracy", labels, baseline)
    _, of_ours = checked("accuracy", labels, ours)
    of_baseline, of_ours = np.atleast_2d(of_baseline), np.atleast_2d(of_ours)
    if of_baseline.shape != of_ours.shape:
        raise UserError(f"McNemar's test pairs seeds: predictions have shapes {of_baseline.shape} and {of_ours.shape}")
    gained = ((of_ours == gold) & (of_baseline != gold)).sum(1)
    lost = ((of_ours != gold) & (of_baseline == gold)).sum(1)
    return [float(p) for p in np.minimum(1.0, 2 * binom.cdf(np.minimum(gained, lost), gained + lost, 0.5))]
