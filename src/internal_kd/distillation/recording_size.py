"""What a recording takes on disk, and which part of it fits into a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from internal_kd.distillation.declarations import KINDS
from internal_kd.learners.learner import Wanted

Sizes = Mapping[str, int]


def stored(wanted: Wanted) -> Wanted:
    """Return what is stored for what is read: scores are made of attention and attention_lse."""
    return frozenset((part, layer) for kind, layer in wanted for part in (KINDS[kind].made_of or (kind,)))


def token_counts(kind: str, lengths: np.ndarray) -> np.ndarray:
    """Return how many places on its token axes each example takes, (N,), int64."""
    return np.asarray(lengths).astype(np.int64) ** KINDS[kind].axes.count("tokens")


def bytes_of(kind: str, lengths: np.ndarray, sizes: Sizes) -> int:
    """Return the bytes that one layer of a kind takes for examples of these lengths.

    Args:
        kind: of ``KINDS``.
        lengths: tokens of each example, (N,).
        sizes: of the axes: classes, width, heads, inner.
    """
    fixed = math.prod(sizes[axis] for axis in KINDS[kind].axes if axis != "tokens")
    return fixed * int(token_counts(kind, lengths).sum()) * (4 if kind == "logits" else 2)


def recording_bytes(wanted: Wanted, lengths: np.ndarray, sizes: Sizes) -> int:
    """Return the bytes that a recording of ``wanted`` takes."""
    return sum(bytes_of(kind, lengths, sizes) for kind, _ in stored(wanted))


def affordable(wanted: Wanted, lengths: np.ndarray, sizes: Sizes, budget_gb: float) -> Wanted:
    """Return what fits into the disk budget, from the top layer down; the rest is computed while training.

    To compute a layer everything below it is computed too, so the highest layers are worth most, and of one layer
    what takes fewest bytes. What has no value for each token is small: it is always kept and not counted.
    """
    ranked = sorted(stored(wanted), key=lambda one: (-one[1], bytes_of(one[0], lengths, sizes), one[0]))
    kept, taken, budget = set(), 0, budget_gb * 1e9
    for kind, layer in ranked:
        if KINDS[kind].per_token:
            taken += bytes_of(kind, lengths, sizes)
        if taken <= budget or not KINDS[kind].per_token:
            kept.add((kind, layer))
    return frozenset(kept)
