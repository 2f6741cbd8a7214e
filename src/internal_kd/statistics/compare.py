"""Whether one method is better than another: one estimate, one interval and one p for each of two questions.

*On this dev set*: would other seeds of both methods, scored on these examples, differ? *On new examples*: would
other seeds, scored on other examples of this task, differ? The first is Welch's t test over the seeds' scores; the
second counts seeds and examples as drawn at random, crossed (``variance.py``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from internal_kd.errors import UserError
from internal_kd.statistics.estimate import Estimate, mean_of_independent
from internal_kd.statistics.means import Mean, mean_score, scalar
from internal_kd.statistics.variance import ROUNDING, Crossed
from internal_kd.tasks.metrics import checked, classes_of

Scope: TypeAlias = Literal["dev", "new"]

# More seeds than this are no advice.
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Lead(ABC):
    """A method's lead over a baseline: ours minus baseline, in natural units (0.03 is 3 points).

    Attributes:
        new: the lead with its error on new examples; with one seed on a side, over examples alone.
        dev: the lead with its error on this dev set; the error is NaN with one seed on a side.
        margin: differences below this count as equal.
        confidence: of the intervals, 0.95 unless given.
        bounds: lowest and highest possible lead.
        higher_is_better: False if a positive lead is a loss.
        fewest_seeds: of the side that has fewer, over tasks the smallest.
    """

    new: Estimate
    dev: Estimate
    margin: float
    confidence: float
    bounds: tuple[float, float]
    higher_is_better: bool
    fewest_seeds: int

    @property
    def difference(self) -> float:
        """Ours minus baseline, means over seeds."""
        return self.new.value

    @property
    def low(self) -> float:
        """Lower end of the interval on new examples."""
        return self.new.interval(self.confidence)[0]

    @property
    def high(self) -> float:
        """Upper end of the interval on new examples."""
        return self.new.interval(self.confidence)[1]

    @property
    def p(self) -> float:
        """Two-sided p on new examples; with one seed on a side, over examples alone."""
        return self.new.p

    @property
    def dev_low(self) -> float:
        """Lower end of the interval on this dev set; NaN with one seed on a side."""
        return self.dev.interval(self.confidence)[0]

    @property
    def dev_high(self) -> float:
        """Upper end of the interval on this dev set; NaN with one seed on a side."""
        return self.dev.interval(self.confidence)[1]

    @property
    def dev_p(self) -> float:
        """Two-sided p on this dev set; NaN with one seed on a side."""
        return self.dev.p

    @property
    def one_seed(self) -> bool:
        """Whether a side has one seed only, which allows no verdict."""
        return self.fewest_seeds < 2

    def estimate(self, scope: Scope) -> Estimate:
        """Return the lead with its error on this dev set (``"dev"``) or on new examples (``"new"``)."""
        return self.dev if scope == "dev" else self.new

    def equal(self, scope: Scope = "new", alpha: float = 0.05) -> bool:
        """Whether the two methods are shown to differ by less than ``margin``."""
        return not self.one_seed and self.estimate(scope).within(self.margin, alpha)

    def smallest_lead(self, scope: Scope = "new", alpha: float = 0.05, power: float = 0.8) -> float:
        """Return the smallest true lead that a study like this would show in a share ``power`` of repeats."""
        return math.nan if self.one_seed else self.estimate(scope).smallest_shown(alpha, power)

    def seeds_needed(self, scope: Scope = "new", alpha: float = 0.05) -> int | None:
        """Return the fewest seeds of each method with which p would fall below alpha if the estimates stayed.

        None if more seeds would not help, or one seed on a side leaves their spread unknown.
        """

        def shown(seeds: int) -> bool:
            return self.with_seeds(seeds, scope).p < alpha

        if self.one_seed or not shown(MOST_SEEDS):
            return None
        too_few, enough = 1, MOST_SEEDS
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            too_few, enough = (too_few, middle) if shown(middle) else (middle, enough)
        return enough

    @abstractmethod
    def with_seeds(self, seeds: int, scope: Scope) -> Estimate:
        """Return the lead as it would be with so many seeds of each method if nothing else changed."""

    def __str__(self) -> str:
        from internal_kd.statistics.reading import described

        return described(self)


@dataclass(frozen=True)
class Comparison(Lead):
    """Two methods compared on one task; see ``Lead`` for what it offers.

    Attributes:
        ours: the method's mean score.
        baseline: the baseline's mean score.
        variance: the parts of the lead's variance.
    """

    ours: Mean
    baseline: Mean
    variance: Crossed = field(repr=False, compare=False)

    @property
    def metric(self) -> str:
        """What both are scored by."""
        return self.ours.metric

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.ours.examples

    def with_seeds(self, seeds: int, scope: Scope) -> Estimate:
        """Return the lead as it would be with so many seeds of each method if nothing else changed."""
        grown = self.variance.with_seeds(seeds)
        return scalar(self.difference, grown.on_this_dev_set() if scope == "dev" else grown.on_new_examples())


def compare(
    labels: Any,
    baseline: Any,
    ours: Any,
    metric: str = "accuracy",
    margin: float = 0.01,
    *,
    classes: int | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Compare a method with a baseline on the same examples.

    The result is ours minus baseline in natural units: 0.03 is a lead of 3 points. Both methods' seeds are independent
    of each other and may differ in number. Metrics that are no mean (F1, Matthews, correlations) enter by each
    example's influence (jackknife).

    Args:
        labels: gold classes or values, (examples,).
        baseline: the baseline's predicted classes or values, (seeds, examples); (examples,) is one seed.
        ours: the method's, likewise.
        metric: a key of ``METRICS``.
        margin: differences below this count as equal, in natural units.
        classes: number of classes; by default the highest that occurs and one, at least two.
        confidence: of the intervals.

    Returns:
        A frozen result with ``.difference .low .high .p`` on new examples, ``.dev_low .dev_high .dev_p`` on this
        dev set, and more: see ``Lead``. All are NaN if a seed's score is not defined.

    Raises:
        UserError: the metric is unknown, the arrays do not fit each other, or margin or confidence make no sense.

    Example:
        >>> labels = [0, 1, 1, 0, 1, 0]
        >>> result = compare(labels, [[0, 1, 0, 0, 0, 0]] * 2, [[0, 1, 1, 0, 1, 0], [0, 1, 1, 0, 0, 0]])
        >>> round(result.difference, 2)
        0.25
    """
    gold, of_baseline = checked(metric, labels, baseline)
    _, of_ours = checked(metric, labels, ours)
    number = classes_of(metric, gold, of_baseline, of_ours, given=classes)
    means = [mean_score(gold, predicted, metric, classes=number) for predicted in (of_baseline, of_ours)]
    return lead(means[0], means[1], margin, confidence=confidence)


def lead(baseline: Mean, ours: Mean, margin: float = 0.01, *, confidence: float = 0.95) -> Comparison:
    """Compare two means of the same examples, as ``compare`` does; each may be compared with many others.

    Raises:
        UserError: they were measured differently or on other examples, or margin or confidence make no sense.
    """
    if not margin > 0 or not 0 < confidence < 1:
        raise UserError(f"margin {margin:g} should be above 0, confidence {confidence:g} between 0 and 1")
    if (baseline.metric, baseline.examples) != (ours.metric, ours.examples):
        what = " and ".join(f"{mean.metric} of {mean.examples} examples" for mean in (baseline, ours))
        raise UserError(f"{what} cannot be compared")
    variance = Crossed.of((1, ours.side), (-1, baseline.side))
    difference = ours.mean - baseline.mean
    if abs(difference) <= ROUNDING * max(abs(ours.mean), abs(baseline.mean)):
        difference = 0.0
    low, high = ours.bounds
    return Comparison(
        new=scalar(difference, variance.on_new_examples()),
        dev=scalar(difference, variance.on_this_dev_set()),
        margin=margin,
        confidence=confidence,
        bounds=(low - high, high - low),
        higher_is_better=ours.higher_is_better,
        fewest_seeds=min(ours.seeds, baseline.seeds),
        ours=ours,
        baseline=baseline,
        variance=variance,
    )


def contrast(*parts: tuple[float, Mean], scope: Scope = "new") -> Estimate:
    """Return a weighted sum of means of the same examples, with its error.

    Args:
        parts: weight and mean of each.
        scope: ``"dev"`` for this dev set, ``"new"`` for new examples.

    Raises:
        UserError: the means are of other numbers of examples.

    Example:
        >>> grows = contrast((1, ours_small), (-1, soft_small), (-1, ours_full), (1, soft_full))
    """
    if len(examples := dict.fromkeys(mean.examples for _, mean in parts)) > 1:
        raise UserError(f"means of {' and '.join(map(str, examples))} examples cannot be combined")
    variance = Crossed.of(*((weight, mean.side) for weight, mean in parts))
    value = sum(weight * mean.mean for weight, mean in parts)
    return scalar(value, variance.on_this_dev_set() if scope == "dev" else variance.on_new_examples())


@dataclass(frozen=True)
class Pooled(Lead):
    """The mean lead over several tasks.

    Attributes:
        leads: the tasks' leads.
    """

    leads: tuple[Lead, ...] = field(repr=False)

    def with_seeds(self, seeds: int, scope: Scope) -> Estimate:
        """Return the lead as it would be with so many seeds of each method on each task if nothing else changed."""
        return mean_of_independent([one.with_seeds(seeds, scope) for one in self.leads])


def pool(results: Sequence[Lead]) -> Pooled:
    """Return the mean lead over tasks, each task counting once; their variances add.

    Margin and confidence are those of the first result.

    Raises:
        UserError: there are no results, or a higher value is better in some and worse in others.

    Example:
        >>> over_tasks = pool([compare(*rte), compare(*mrpc, metric="f1")])
    """
    results = tuple(results)
    if not results:
        raise UserError("no results to pool")
    if len({one.higher_is_better for one in results}) > 1:
        raise UserError("metrics where higher is better and metrics where lower is better cannot be pooled")
    return Pooled(
        new=mean_of_independent([one.new for one in results]),
        dev=mean_of_independent([one.dev for one in results]),
        margin=results[0].margin,
        confidence=results[0].confidence,
        bounds=(float(np.mean([one.bounds[0] for one in results])), float(np.mean([one.bounds[1] for one in results]))),
        higher_is_better=results[0].higher_is_better,
        fewest_seeds=min(one.fewest_seeds for one in results),
        leads=results,
    )
