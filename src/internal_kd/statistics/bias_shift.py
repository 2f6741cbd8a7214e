"""How a classifier that never saw some classes does once their biases are raised by one amount."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from internal_kd.errors import UserError

Array = np.ndarray


def best_shift(logits: Any, labels: Any, unseen: Sequence[int]) -> float:
    """Return the amount, added to the logits of the unseen classes, with the fewest errors.

    All amounts that matter are tried: an example changes sides where the best unseen class overtakes the best seen one.
    Of several best amounts the widest range counts, and its middle is returned.

    Args:
        logits: (N, C).
        labels: gold classes, (N,).
        unseen: class numbers, some but not all.

    Raises:
        UserError: the logits are not (N, C) with a label each, or not some but all or no classes are unseen.

    Example:
        >>> best_shift([[2.0, 0.0], [3.0, 2.0], [5.0, 0.0]], [0, 1, 0], unseen=[1])
        1.5
    """
    logits, labels = np.asarray(logits, dtype=float), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise UserError(f"logits of shape {logits.shape} and labels of shape {labels.shape}; give (N, C) and (N,)")
    if not 0 < len(set(unseen)) < logits.shape[1]:
        raise UserError(f"{len(set(unseen))} of {logits.shape[1]} classes are unseen; name some of them, not all")
    hidden, shown = logits[:, list(unseen)], np.delete(logits, list(unseen), axis=1)
    known = np.delete(np.arange(logits.shape[1]), list(unseen))
    needed = shown.max(axis=1) - hidden.max(axis=1)
    if_unseen = labels == np.asarray(unseen)[hidden.argmax(axis=1)]
    if_seen = labels == known[shown.argmax(axis=1)]
    order = np.argsort(needed, kind="stable")
    # right[k]: how many more are right if the k examples that need least are taken for unseen ones.
    right = np.concatenate([[0], np.cumsum(if_unseen[order].astype(int) - if_seen[order].astype(int))])
    edges = np.concatenate([[needed.min() - 2.0], needed[order], [needed.max() + 2.0]])
    widths = np.where(right == right.max(), np.diff(edges), -1.0)
    best = int(widths.argmax())
    return float((edges[best] + edges[best + 1]) / 2)


def shifted_predictions(logits: Any, unseen: Sequence[int], shift: float) -> Array:
    """Return the predicted classes (N,) once the logits (N, C) of the unseen classes are raised."""
    moved = np.array(logits, dtype=float)
    moved[:, list(unseen)] += shift
    return moved.argmax(axis=1)
