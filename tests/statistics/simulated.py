"""Right and wrong answers of methods whose seeds and examples are both drawn at random."""

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from internal_kd.statistics.variance import Crossed, Side

ACCURACY = 0.8
# Shares of the variance of whether an answer is right: what every method finds hard, what this method does.
SHARED, OWN = 0.5, 0.05


def draw_answers(rng, studies, leads, seeds, examples, seed_std, own=OWN):
    """Return whether answers are right, (methods, studies, seeds, examples), and each method's true lead.

    The true accuracies are ``ACCURACY`` plus ``leads``; ``seed_std`` is the standard deviation of a seed's accuracy.
    """
    height = np.exp(-(ndtri(ACCURACY) ** 2) / 2) / np.sqrt(2 * np.pi)
    spread = seed_std / height
    levels = ndtri(ACCURACY + np.asarray(leads)) * np.sqrt(1 + spread**2)
    hard = np.float32(SHARED**0.5) * rng.standard_normal((studies, 1, examples), dtype=np.float32)
    found = []
    for level in levels:
        of_method = np.float32(own**0.5) * rng.standard_normal((studies, 1, examples), dtype=np.float32)
        rest = rng.standard_normal((studies, seeds, examples), dtype=np.float32)
        rest *= np.float32((1 - SHARED - own) ** 0.5)
        seed = (level + spread * rng.standard_normal((studies, seeds, 1))).astype(np.float32)
        found.append(rest + hard + of_method + seed > 0)
    truth = ndtr(levels / np.sqrt(1 + spread**2))
    return found, truth - truth[0]


def side_of(right):
    """Return the side of answers that are right or wrong, (..., seeds, examples)."""
    scores = right.mean(-1)
    return Side(scores, right - scores[..., None])


def differences(baseline, ours):
    """Return difference, standard error, degrees of freedom on new examples, (studies,) each."""
    a, b = side_of(ours), side_of(baseline)
    variance, degrees = Crossed.of((1, a), (-1, b)).on_new_examples()
    return a.scores.mean(-1) - b.scores.mean(-1), np.sqrt(variance), degrees


def p_of(difference, error, degrees):
    """Return two-sided p of a difference of 0."""
    return 2 * stdtr(degrees, -np.abs(difference) / error)
