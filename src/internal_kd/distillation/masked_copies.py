"""Copies of training examples with some tokens masked: more texts for a teacher to answer, without writing any.

A copy is determined by the example's id, the copy's number and the share of masked tokens, not by the seed of a run, so
that a recording made once serves every student. It has no label: what is left of a text need not mean the same. Terms
that read labels leave it out, all others count it as an example.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from internal_kd.distillation.batches import Batch, TokenExamples

# Ids of examples are below this; what a copy's id has above it says which copy it is.
IDS = 1 << 32
SHARES = 1000

Copy = tuple[int, float]


def copies_of(number: int, share: float) -> tuple[Copy, ...]:
    """Return ``number`` copies as pairs of the copy's number, from 1, and the share of its tokens that is masked."""
    return tuple((copy, share) for copy in range(1, number + 1))


class WithMaskedCopies:
    """Examples and, after them, their copies; everything that reads examples reads these.

    Each token that is not special is masked with probability ``share``, and one at least. A copy with a larger share
    masks what the copy of the same number with a smaller one masks, and more.

    Source: Jiao et al. 2020, TinyBERT (arXiv 1909.10351), section 3.3, and Tang et al. 2019 (arXiv 1903.12136), section
    3.2, where a language model fills most masks, or words are drawn; masks alone are ours.

    Args:
        copies: as `copies_of` returns them, of one or more shares.
        special_ids: tokens that are never masked.

    Example:
        >>> copied = WithMaskedCopies(examples, copies_of(2, 0.4), tokenizer.mask_id, [101, 102])  # doctest: +SKIP
        >>> copied.batch(copied.positions(np.array([0]), copies_of(2, 0.4)))["input_ids"]  # doctest: +SKIP
    """

    def __init__(
        self, examples: TokenExamples, copies: Sequence[Copy], mask_id: int, special_ids: Collection[int]
    ) -> None:
        self._examples, self._copies = examples, tuple(copies)
        self._mask_id, self._special = mask_id, np.array(sorted(special_ids))
        idx, labels = np.asarray(examples.idx), np.asarray(examples.labels)
        missing = np.full_like(labels, np.nan if labels.dtype.kind == "f" else -1)
        self.idx = np.concatenate([idx, *(idx + _mark(*copy) for copy in self._copies)])
        self.labels = np.concatenate([labels, *(missing for _ in self._copies)])
        self.lengths = np.tile(np.asarray(examples.lengths), len(self._copies) + 1)

    def __len__(self) -> int:
        """Return the number of examples, copies included."""
        return len(self.idx)

    def positions(self, originals: np.ndarray, copies: Sequence[Copy]) -> np.ndarray:
        """Return the positions of some originals and of their copies, (originals * (copies + 1),)."""
        numbers = [0, *(self._copies.index(copy) + 1 for copy in copies)]
        return np.concatenate([originals + number * len(self._examples) for number in numbers])

    def vocabulary(self, positions: np.ndarray) -> np.ndarray:
        """Return the token ids that batches of these examples can hold, ascending."""
        originals = np.unique(np.asarray(positions) % len(self._examples))
        return np.union1d(self._examples.vocabulary(originals), [self._mask_id])

    def batch(self, positions: np.ndarray) -> Batch:
        """Return a batch as the originals do; of copies with tokens masked, the copy's id, and no label."""
        import torch

        chosen = np.asarray(positions)
        numbers, originals = np.divmod(chosen, len(self._examples))
        made = self._examples.batch(originals)
        for row in np.flatnonzero(numbers):
            real = int(self.lengths[chosen[row]])
            ids = made["input_ids"][row, :real].numpy()
            ids[self._masked(ids, int(self._examples.idx[originals[row]]), *self._copies[numbers[row] - 1])] = (
                self._mask_id
            )
        made["labels"] = torch.from_numpy(self.labels[chosen])
        made["idx"] = torch.from_numpy(self.idx[chosen])
        return made

    def _masked(self, ids: np.ndarray, idx: int, copy: int, share: float) -> np.ndarray:
        """Which tokens of an example are masked, (length,) bool."""
        drawn = np.random.Generator(np.random.PCG64([idx, copy])).random(len(ids))
        drawn[np.isin(ids, self._special)] = np.inf
        # An original that stands among its copies would be trained on twice.
        return (drawn < share) | (np.isfinite(drawn) & (drawn == drawn.min()))


def _mark(copy: int, share: float) -> int:
    return IDS * (copy * SHARES + round(share * SHARES))
