"""Which training examples a method sees: all of them, a random nested subset, or those that a selector chooses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from internal_kd.errors import UserError
from internal_kd.registry import Registry, resolve

# ``"module:name"`` of a function (idx, count, **facts) -> positions into idx, best first, (count,).
SELECTORS: Registry[str] = Registry("selector", {"random": "internal_kd.distillation.selectors:random_subset"})


class Selected(NamedTuple):
    """Positions into a training set.

    Attributes:
        train: the examples to train on.
        held_out: examples kept aside to be scored; never among ``train``.
    """

    train: np.ndarray
    held_out: np.ndarray


def select(
    idx: np.ndarray,
    *,
    by: str = "random",
    keep: int | float | str = "full",
    hold_out: float = 0.0,
    seen: np.ndarray | None = None,
    **facts: Any,
) -> Selected:
    """Choose training examples.

    Args:
        idx: example ids, (examples,) int64.
        by: a name of ``SELECTORS``.
        keep: a number of examples, a share below 1, or "full".
        hold_out: share of all examples that is kept aside, the same for every seed and every ``keep``.
        seen: (examples,) bool, False for examples of classes that are not trained on; they are held out as others are.
        facts: what the selector needs besides.

    Raises:
        UserError: more examples are asked for than there are, or nothing is left.

    Example:
        >>> select(np.arange(100, 110), keep=4).train.tolist()
        [2, 3, 6, 7]
    """
    idx = np.asarray(idx)
    aside = round(hold_out * len(idx))
    held = np.sort(_fixed_order(idx)[len(idx) - aside :])
    rest = np.setdiff1d(np.arange(len(idx)), held, assume_unique=True)
    if seen is not None:
        rest = rest[seen[rest]]
    count = number_of(keep, len(rest))
    if keep == "full":
        return Selected(rest, held)
    return Selected(rest[resolve(SELECTORS[by])(idx[rest], count, **facts)], held)


def number_of(keep: int | float | str, available: int) -> int:
    """Return how many of the ``available`` examples ``keep`` stands for.

    Raises:
        UserError: more than there are, or none.
    """
    if isinstance(keep, str):
        if keep != "full":
            raise UserError(f"select.keep: {keep!r} is not a number, a share below 1 or 'full'")
        count = available
    else:
        count = keep if isinstance(keep, int) else round(keep * available) if keep < 1 else int(keep)
    if count > available:
        raise UserError(f"select.keep: {count} is more than the {available} training examples there are; use 'full'")
    if count < 1:
        raise UserError(f"select.keep: {keep} of {available} training examples leaves none; keep at least one")
    return count


def random_subset(idx: np.ndarray, count: int) -> np.ndarray:
    """Return positions of the first ``count`` of one fixed permutation keyed by example id.

    The same for every seed, and nested: the subset of 1,000 is contained in that of 3,000.
    """
    return _fixed_order(idx)[:count]


def _fixed_order(idx: np.ndarray) -> np.ndarray:
    """Return positions in no visible order, by the ids alone (finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = np.asarray(idx).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")
