"""An estimate with its standard error: its interval and its p come from the same t distribution, so they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error and the degrees of freedom of that error.

    The error is NaN where it cannot be estimated, for example from one seed; then interval and p are NaN too. It is 0
    if nothing varies; then the interval is the number itself.

    Example:
        >>> low, high = Estimate(0.03, 0.01, 18).interval()
        >>> round(low, 3), round(high, 3)
        (0.009, 0.051)
    """

    value: float
    error: float
    degrees: float

    @property
    def p(self) -> float:
        """Two-sided p of "the true number is 0"."""
        from scipy.special import stdtr

        if math.isnan(self.value) or math.isnan(self.error):
            return math.nan
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stdtr(self.degrees, -abs(self.value) / self.error))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval; it leaves 0 out exactly if ``p`` is below 1 - ``confidence``."""
        half = self.quantile((1 + confidence) / 2) * self.error if self.error else self.error
        return self.value - half, self.value + half

    def within(self, margin: float, alpha: float = 0.05) -> bool:
        """Whether the true number lies within ± ``margin``, by two one-sided tests at ``alpha`` (Schuirmann 1987)."""
        low, high = self.interval(1 - 2 * alpha)
        return -margin < low and high < margin

    def smallest_shown(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """Return the smallest true number that studies with this error would show in a share ``power`` of repeats."""
        return (self.quantile(1 - alpha / 2) + self.quantile(power)) * self.error if self.error else self.error

    def quantile(self, share: float) -> float:
        """Return a quantile of the t distribution with these degrees of freedom."""
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees, share))


def mean_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates; errors add in squares, degrees of freedom after Satterthwaite 1946."""
    total, number = sum_of_independent(estimates), len(estimates)
    return Estimate(total.value / number, total.error / number, total.degrees)


def sum_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """Return the sum of independent estimates, likewise."""
    variances = [estimate.error**2 for estimate in estimates]
    total = sum(variances)
    below = sum(v**2 / estimate.degrees for v, estimate in zip(variances, estimates, strict=True))
    degrees = total**2 / below if below > 0 else min(estimate.degrees for estimate in estimates)
    return Estimate(sum(estimate.value for estimate in estimates), math.sqrt(total), degrees)
