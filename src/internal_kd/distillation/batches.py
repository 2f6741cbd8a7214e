"""Which examples make up a batch, and how a batch is cut into parts that fit a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from internal_kd.learners.rows import by_row, row_ids

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Examples are sorted by length within pools of this many batches: enough for little padding, few enough for chance.
POOL_BATCHES = 50

Batch = dict[str, "Tensor"]


class Examples(Protocol):
    """The examples of one split, encoded.

    Attributes:
        idx: example ids, (examples,) int64.
        labels: (examples, ...) class numbers, or float targets; -1 or NaN for an example without a label. For tags
            (rows,); ``rows_of`` and ``places_of`` then give the rows of some positions, by id and by place.
        lengths: tokens of each example with special tokens, (examples,) int64.
    """

    idx: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        """Return the number of examples."""

    def batch(self, positions: np.ndarray) -> Batch:
        """Return a batch: what the network takes, (B, ...) each, and ``labels`` (B, ...) and ``idx`` (B,).

        For tags ``labels`` and ``rows`` (learners/rows.py) are (B, n).
        """


class TokenExamples(Examples, Protocol):
    """Examples that are token ids."""

    def vocabulary(self, positions: np.ndarray) -> np.ndarray:
        """Return the token ids that batches of these examples can hold, ascending."""


class LengthBuckets:
    """Batches of examples of about the same length, in an order that depends on seed and epoch alone.

    Each epoch shuffles the examples, sorts pools of 50 batches by length, cuts them into batches and shuffles those;
    padded over real tokens comes to about 1.2 or less. Every example occurs once; the last, smaller batch is kept.
    With ``steps`` an epoch is that many batches, and goes on where the one before it stopped.

    Args:
        lengths: real tokens of each example, (examples,).
        steps: batches of an epoch; None: as many as it takes to see every example once.

    Example:
        >>> [batch.tolist() for batch in LengthBuckets(np.array([3, 9, 4, 8]), batch_size=2, seed=1).epoch(0)]
        [[0, 2], [3, 1]]
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, steps: int | None = None) -> None:
        self._lengths, self._batch_size, self._seed = np.asarray(lengths), batch_size, seed
        self._of_all = -(-len(self._lengths) // batch_size)
        self._steps = steps or self._of_all

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._steps

    def epoch(self, number: int) -> list[np.ndarray]:
        """Return the batches of epoch ``number`` (from 0), as positions into ``lengths``."""
        begin = number * self._steps
        first, last = begin // self._of_all, -(-(begin + self._steps) // self._of_all)
        batches = [batch for all_seen in range(first, last) for batch in self._once_through(all_seen)]
        return batches[begin - first * self._of_all :][: self._steps]

    def _once_through(self, number: int) -> list[np.ndarray]:
        rng = np.random.Generator(np.random.PCG64([self._seed, number]))
        order = rng.permutation(len(self._lengths))
        pool = self._batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool):
            members = order[start : start + pool]
            # A stable sort leaves examples of one length in their shuffled order.
            members = members[np.argsort(self._lengths[members], kind="stable")]
            batches += [members[at : at + self._batch_size] for at in range(0, len(members), self._batch_size)]
        return [batches[number] for number in rng.permutation(len(batches))]


@dataclass(frozen=True)
class Part:
    """Examples of a batch that are computed at once: a micro-batch, or one device's share.

    Attributes:
        batch: tensors by name, (examples, ...) each; ``idx`` stays on the CPU, where answers are looked up by it.
        labelled: rows of logits that have a label; None: all.
        share, row_share, labelled_share: of the batch's examples, of its rows, and of its labelled rows.
    """

    batch: Batch
    labelled: Tensor | None = None
    share: float = 1.0
    row_share: float = 1.0
    labelled_share: float = 1.0

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.batch["idx"])

    @cached_property
    def row_count(self) -> int:
        """How many rows of logits there are."""
        return len(row_ids(self.batch))

    @property
    def labelled_count(self) -> int:
        """How many rows have a label."""
        return self.row_count if self.labelled is None else len(self.labelled)

    @property
    def labels(self) -> Tensor:
        """The labels of the rows."""
        return by_row(self.batch["labels"], self.batch)

    def to(self, device: torch.device) -> Part:
        """Return the part with its tensors on a device."""
        if device.type == "cpu":
            return self
        moved = {
            name: tensor if name == "idx" else tensor.pin_memory().to(device, non_blocking=True)
            for name, tensor in self.batch.items()
        }
        rows = None if self.labelled is None else self.labelled.to(device, non_blocking=True)
        return replace(self, batch=moved, labelled=rows)


def rows_of(examples: Examples, positions: np.ndarray) -> np.ndarray:
    """Return the ids of the rows of logits of some examples, (rows,): their ids, or for tags those of their words."""
    found = getattr(examples, "rows_of", None)
    return np.asarray(examples.idx)[positions] if found is None else found(positions)


def labels_of(examples: Examples, positions: np.ndarray) -> np.ndarray:
    """Return the labels of those rows, (rows, ...)."""
    found = getattr(examples, "places_of", None)
    return np.asarray(examples.labels)[positions if found is None else found(positions)]


def answered_by(examples: Examples, rows: np.ndarray) -> np.ndarray:
    """Return for every example whether all of its rows are among those ids, (examples,), bool."""
    found = getattr(examples, "answered", None)
    return np.isin(np.asarray(examples.idx), rows) if found is None else found(rows)


def parts_of(batch: Batch, size: int | None = None, *, rank: int = 0, world: int = 1) -> Iterator[Part]:
    """Cut a batch on the CPU into parts of at most ``size`` examples, of every ``world``-th one from ``rank`` on.

    The shares of all parts of all ranks add up to 1, so a mean over the batch is the sum of share times mean.
    """
    examples, rows, labelled = len(batch["idx"]), len(row_ids(batch)), int(_labelled(batch).sum())
    if world > 1:
        batch = {name: tensor[rank::world] for name, tensor in batch.items()}
    mine = len(batch["idx"])
    size = size or max(mine, 1)
    for start in range(0, mine, size):
        part = {name: tensor[start : start + size] for name, tensor in batch.items()} if size < mine else batch
        real = _labelled(part)
        count = int(real.sum())
        chosen = None if count == len(real) else real.nonzero().squeeze(1)
        shares = (len(part["idx"]) / examples, len(real) / max(rows, 1), count / max(labelled, 1))
        yield Part(part, chosen, *shares)


def _labelled(batch: Batch) -> Tensor:
    """Which rows have a label, (R,) bool: a number that is not NaN, a class that is not negative."""
    labels = by_row(batch["labels"], batch)
    real = ~labels.isnan() if labels.is_floating_point() else labels >= 0
    return real.flatten(1).any(1) if real.ndim > 1 else real
