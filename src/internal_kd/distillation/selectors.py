"""Which training examples a method sees: all, a random nested subset, or the first by a selector or by scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from internal_kd.errors import UserError
from internal_kd.registry import Registry, resolve

# ``"module:name"`` of a function (idx, labels, count) -> positions into idx, best first, (count,).
SELECTORS: Registry[str] = Registry(
    "selector",
    {
        "random": "internal_kd.distillation.selectors:random_subset",
        "balanced": "internal_kd.distillation.selectors:balanced_subset",
    },
)

# ``"module:name"`` of a function (logits of every epoch, labels) -> scores (distillation/scores.py).
SCORES: Registry[str] = Registry(
    "score",
    {
        "el2n": "internal_kd.distillation.scores:el2n",
        "forgetting": "internal_kd.distillation.scores:forgetting",
        "loss": "internal_kd.distillation.scores:loss",
        "confidence": "internal_kd.distillation.scores:confidence",
        "herding": "internal_kd.distillation.scores:herding",
    },
)


class Selected(NamedTuple):
    """Positions into a training set.

    Attributes:
        held_out: examples kept aside to be scored; never among ``train``.
    """

    train: np.ndarray
    held_out: np.ndarray


def select(
    idx: np.ndarray,
    labels: np.ndarray,
    *,
    by: str = "random",
    keep: int | float | str = "full",
    hold_out: float = 0.0,
    seen: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    order: str = "high",
) -> Selected:
    """Choose training examples.

    Args:
        idx: example ids, (examples,) int64.
        labels: (examples, ...).
        by: a name of ``SELECTORS``; not read if there are scores.
        keep: a number of examples, a share below 1, or "full".
        hold_out: share of all examples that is kept aside, the same for every seed and every ``keep``.
        seen: (examples,) bool, False for examples of classes that are not trained on; they are held out as others are.
        scores: (examples,); the highest are taken, or with ``order`` "low" the lowest, equal ones in the random order.

    Raises:
        UserError: more examples are asked for than there are, or nothing is left.

    Example:
        >>> select(np.arange(100, 110), np.zeros(10), keep=4).train.tolist()
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
    if scores is not None:
        ranked = np.asarray(scores)[rest] * (1 if order == "low" else -1)
        at_random = _fixed_order(idx[rest])
        return Selected(rest[at_random[np.argsort(ranked[at_random], kind="stable")][:count]], held)
    return Selected(rest[resolve(SELECTORS[by])(idx[rest], np.asarray(labels)[rest], count)], held)


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


def random_subset(idx: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return positions of the first ``count`` of one fixed permutation keyed by example id.

    The same for every seed, and nested: the subset of 1,000 is contained in that of 3,000.
    """
    return _fixed_order(idx)[:count]


def balanced_subset(idx: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return positions that take the classes in turn, each class in the order of `random_subset`.

    Nested like it; classes that run out leave the rest to the others.

    Raises:
        UserError: an example has no class of its own.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> labels[balanced_subset(np.arange(6), labels, 4)].tolist()
        [0, 1, 0, 1]
    """
    if labels.ndim != 1 or labels.dtype.kind != "i":
        raise UserError("select.by: balanced needs a class for each example; use random")
    order = _fixed_order(idx)
    turn = np.empty(len(idx), np.int64)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turn[of_class] = np.arange(len(of_class))
    return np.lexsort((labels, turn))[:count]


def _fixed_order(idx: np.ndarray) -> np.ndarray:
    """Return positions in no visible order, by the ids alone (finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = np.asarray(idx).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")
