"""What would decide a difference: how far more seeds alone would narrow its interval, and how many would do.

A difference of two means over S seeds has the variance of the examples (what every seed has in common) plus that of a
seed by S. More seeds make the second small and leave the first: where a difference lies within that, only more dev
examples can show it. Both variances are estimates from a few seeds, so what follows from them is rough. The two sides'
seeds are taken as independent: where equal seeds err alike, the examples' part comes out too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from internal_kd.analysis.resampling import SeedMean, variance

# Beyond this "more seeds" is no advice.
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Outlook:
    """``many_seeds``: the 95 % interval's half-width that any number of seeds leaves on these dev examples, in natural
    units. ``seeds_needed``: the fewest seeds of each side with which the interval would leave 0 out if the difference
    stayed as it is, at least two; None where ``MOST_SEEDS`` would not do.
    """

    many_seeds: float
    seeds_needed: int | None


def outlook(difference: float, a: SeedMean, b: SeedMean) -> Outlook | None:
    """Return what more seeds would do for a difference of two means; None where a side has one seed."""
    from scipy.special import ndtri, stdtrit

    if not (a.degrees and b.degrees):
        return None
    seen = variance(a.over_examples - b.over_examples)
    examples = max(0.0, seen - sum(mean.own / (mean.degrees + 1) for mean in (a, b)))
    of_seeds = np.array([a.of_seeds, b.of_seeds])
    many = float(ndtri(0.975)) * math.sqrt(examples)
    if abs(difference) <= many:
        return Outlook(many, None)
    for seeds in range(2, MOST_SEEDS + 1):
        shares = of_seeds / seeds
        total, below = examples + shares.sum(), (shares**2).sum() / (seeds - 1)
        degrees = max(total**2 / below, seeds - 1) if below > 0 else math.inf
        half = float(stdtrit(degrees, 0.975)) if math.isfinite(degrees) else float(ndtri(0.975))
        if half * math.sqrt(total) < abs(difference):
            return Outlook(many, seeds)
    return Outlook(many, None)
