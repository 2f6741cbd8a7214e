"""How much a mean over seeds and examples would vary, if both were drawn again.

Every seed of a method answers the same examples, so the two are crossed. The variance of a mean, or of a difference
between two methods' means, has two sources: the examples, and each method's seeds. Each is seen with the residual of
the other (what a seed gets right on one example and not on the next), which would be counted twice and is subtracted
once:

    V = max(V_examples + V_seeds - V_residual, V_examples, V_seeds)

Shapes: S seeds, N examples; any axes before those are separate studies, for simulations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray

# Differences below this share of the scores are rounding, not spread.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Side:
    """One method's results.

    Attributes:
        scores: each seed's score, (..., S).
        influence: what each example adds to each seed's score, less the seed's score; (..., S, N), 0 on average.
    """

    scores: Array
    influence: Array

    @cached_property
    def by_example(self) -> Array:
        """The influence averaged over seeds, (..., N)."""
        return self.influence.mean(-2)

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return self.influence.shape[-2]

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.influence.shape[-1]

    def variance_of_seeds(self) -> Array:
        """Return the variance of the mean score as the seeds show it, (...); NaN for one seed."""
        if self.seeds < 2:
            return np.full(self.scores.shape[:-1], np.nan)
        apart = self.scores - self.scores.mean(-1, keepdims=True)
        apart = np.where(np.abs(apart) > ROUNDING * np.abs(self.scores), apart, 0.0)
        return (apart**2).sum(-1) / ((self.seeds - 1) * self.seeds)

    def variance_of_residual(self) -> Array:
        """Return the interaction's share in the variance of the mean score, (...); 0 for one seed."""
        if self.seeds < 2:
            return np.zeros(self.scores.shape[:-1])
        left = self.influence - self.by_example[..., None, :]
        mean_square = (left**2).sum((-2, -1)) / ((self.seeds - 1) * (self.examples - 1))
        return mean_square / (self.seeds * self.examples)


@dataclass(frozen=True)
class Crossed:
    """The parts of the variance of a mean over crossed seeds and examples, or of a weighted sum of several.

    Attributes:
        of_examples: V_examples, (...).
        of_seeds: V_seeds of each method, (...) each.
        of_residual: V_residual of each method, (...) each.
        seeds: number of seeds of each method.
        examples: number of examples.
    """

    of_examples: Array
    of_seeds: tuple[Array, ...]
    of_residual: tuple[Array, ...]
    seeds: tuple[int, ...]
    examples: int

    @classmethod
    def of(cls, *parts: tuple[float, Side]) -> Crossed:
        """Return the variance of a weighted sum of methods' means over the same examples.

        A method's mean alone is ``of((1, side))``, its difference from a baseline's ``of((1, ours), (-1, baseline))``.
        """
        by_example = np.asarray(sum(weight * side.by_example for weight, side in parts))
        examples = by_example.shape[-1]
        spread = by_example.var(-1, ddof=1) if examples > 1 else np.full(by_example.shape[:-1], np.nan)
        return cls(
            spread / examples,
            tuple(weight**2 * side.variance_of_seeds() for weight, side in parts),
            tuple(weight**2 * side.variance_of_residual() for weight, side in parts),
            tuple(side.seeds for _, side in parts),
            examples,
        )

    def on_new_examples(self) -> tuple[Array, Array]:
        """Return variance and degrees of freedom if seeds and examples are drawn again, (...) each.

        With one seed on a side: if examples alone are.
        """
        if min(self.seeds) < 2:
            return self.of_examples, np.full(np.shape(self.of_examples), self.examples - 1.0)
        seeds, residual = sum(self.of_seeds), sum(self.of_residual)
        total = np.maximum(np.maximum(self.of_examples + seeds - residual, self.of_examples), seeds)
        with np.errstate(divide="ignore", invalid="ignore"):
            below = self.of_examples**2 / (self.examples - 1) + seeds**2 / self._degrees_of_seeds()
            for part, count in zip(self.of_residual, self.seeds, strict=True):
                below = below + part**2 / ((count - 1) * (self.examples - 1))
            degrees = np.maximum(total**2 / below, min(self.seeds) - 1)
        # Seeds that vary no more than the residual alone makes them add nothing to the variance, nor doubt about it.
        # Two seeds vary too little too often for that to be evidence.
        only_examples = (seeds <= residual) & (min(self.seeds) > 2)
        return total, np.where(only_examples | (total == 0), self.examples - 1.0, degrees)

    def _degrees_of_seeds(self) -> Array:
        # Satterthwaite's approximation is cautious for few seeds; Welch's second one (1949) is exact for equal spread.
        # From two seeds it is too bold where the spreads differ.
        free = [count - 1 for count in self.seeds]
        more = 2 if min(free) > 1 else 0
        below = np.asarray(sum(part**2 / (f + more) for part, f in zip(self.of_seeds, free, strict=True)))
        degrees = np.asarray(sum(self.of_seeds)) ** 2 / np.where(below > 0, below, 1.0) - more
        return np.maximum(degrees, min(free))

    def on_this_dev_set(self) -> tuple[Array, Array]:
        """Return variance and degrees of freedom if seeds alone are drawn again (Welch 1947), (...) each."""
        total = sum(self.of_seeds)
        with np.errstate(divide="ignore", invalid="ignore"):
            below = sum(part**2 / (count - 1) for part, count in zip(self.of_seeds, self.seeds, strict=True))
            degrees = total**2 / below
        return np.asarray(total), np.where(np.isfinite(degrees), degrees, max(1, min(self.seeds) - 1))

    def with_seeds(self, seeds: int) -> Crossed:
        """Return the variance that so many seeds on each side would have if nothing else changed."""
        apart = np.maximum(self.of_examples - sum(self.of_residual), 0.0)
        grown = [count / seeds for count in self.seeds]
        residual = tuple(part * scale for part, scale in zip(self.of_residual, grown, strict=True))
        return Crossed(
            np.asarray(apart + sum(residual)),
            tuple(part * scale for part, scale in zip(self.of_seeds, grown, strict=True)),
            residual,
            (seeds,) * len(self.seeds),
            self.examples,
        )
