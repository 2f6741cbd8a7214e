"""Which examples make up a batch, and which a smaller training set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from internal_kd.errors import UserError

# Examples are sorted by length within pools of this many batches: enough for little padding, few enough for chance.
POOL_BATCHES = 50


class LengthBuckets(Sampler[list[int]]):
    """Batches of examples of about the same length, in an order that depends on seed and epoch alone.

    Each epoch shuffles the examples, sorts pools of 50 batches by length, cuts them into batches and shuffles those;
    padded over real tokens comes to about 1.2 or less. Every example occurs once; the last, smaller batch is kept.

    Args:
        lengths: real tokens of each example, shape (examples,).
        batch_size: examples in a batch.
        seed: of the order.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield lists of positions into ``lengths``."""
        rng = np.random.Generator(np.random.PCG64([self._seed, self._epoch]))
        order = rng.permutation(len(self._lengths))
        pool = self._batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool):
            members = order[start : start + pool]
            # A stable sort leaves examples of one length in their shuffled order.
            members = members[np.argsort(self._lengths[members], kind="stable")]
            batches += [members[at : at + self._batch_size] for at in range(0, len(members), self._batch_size)]
        for number in rng.permutation(len(batches)):
            yield batches[number].tolist()


def nested_subset(idx: np.ndarray, examples: int) -> np.ndarray:
    """Return the positions of the first ``examples`` of one fixed permutation keyed by example id.

    The same for every seed, and nested: the subset of 1,000 is contained in that of 3,000.

    Args:
        idx: example ids, shape (total,), int64.
        examples: how many to take.

    Returns:
        Positions into ``idx``, shape (examples,).

    Raises:
        UserError: more examples are wanted than there are.
    """
    if examples > len(idx):
        raise UserError(f"study.examples: {examples} are more than the task's {len(idx)} training examples")
    return np.argsort(_scrambled(np.asarray(idx)), kind="stable")[:examples]


def _scrambled(idx: np.ndarray) -> np.ndarray:
    """Map ids to 64-bit values in no visible order (the finaliser of SplitMix64, Steele et al. 2014; one to one)."""
    mixed = idx.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
