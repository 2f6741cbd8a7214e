"""Mean and spread of scores over seeds, where a score may be undefined."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev


def mean_over_seeds(values: Sequence[float | None]) -> float | None:
    """Return the mean; None without values, or if one is not defined: leaving it out would flatter the method.

    Example:
        >>> mean_over_seeds([0.5, 0.7]), mean_over_seeds([0.5, None])
        (0.6, None)
    """
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined and len(defined) == len(values) else None


def std_over_seeds(values: Sequence[float | None]) -> float | None:
    """Return the sample standard deviation; None for fewer than two values, or if one is not defined."""
    defined = [value for value in values if value is not None]
    return stdev(defined) if len(defined) == len(values) > 1 else None
