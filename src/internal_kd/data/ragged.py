"""Token ids of examples in a row, ragged, and padded batches made from them. inputs.py has their arrays on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.learners.rows import NO_ROW
from internal_kd.tasks.tags import word_id

if TYPE_CHECKING:
    from torch import Tensor

_EXAMPLES_AT_ONCE = 10_000


@dataclass(frozen=True)
class Ragged:
    """The token ids of some examples in a row, with what belongs to them; see the arrays in inputs.py."""

    idx: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray
    types: np.ndarray | None = None
    words: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        labels: np.ndarray,
        words: Sequence[np.ndarray] | None = None,
        idx: Sequence[int] | None = None,
    ) -> Ragged:
        """Return examples from a list of token ids for each; without ``idx`` they are counted from 0."""
        flat = [None if lists is None else np.concatenate(lists).astype(np.int64) for lists in (ids, types, words)]
        assert flat[0] is not None
        numbers = np.arange(len(ids)) if idx is None else np.asarray(idx, np.int64)
        offsets = np.cumsum([0, *map(len, ids)])
        return cls(numbers, labels, offsets, flat[0], flat[1], flat[2])

    def fits(self) -> bool:
        """Whether the arrays belong together."""
        labelled = self.idx if self.words is None else self.ids
        lengths = len(labelled) == len(self.labels) and len(self.offsets) == len(self.idx) + 1
        return lengths and len(self.ids) == self.offsets[-1]


class EncodedExamples:
    """The token ids, labels and example ids of a split, or of train and unlabelled together.

    Attributes:
        name: of the split.
        idx: example ids, (examples,), int64.
        labels: class indices (int64, -1 without a label) or values (float32, NaN without), (examples,).
        lengths: tokens of each example, special tokens included, (examples,), int64.
        labelled: whether an example has a label, (examples,), bool.
    """

    def __init__(self, name: str, parts: Sequence[Ragged], pad_id: int) -> None:
        self.name = name
        self.idx = np.concatenate([part.idx for part in parts])
        self.labels = np.concatenate([part.labels for part in parts])
        self.lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        self.labelled = ~np.isnan(self.labels) if self.labels.dtype.kind == "f" else self.labels >= 0
        self._parts = parts
        self._first = np.cumsum([0, *(len(part.idx) for part in parts)])
        self._pad_id = pad_id

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.idx)

    def ids(self, position: int) -> np.ndarray:
        """Return the token ids of one example, (length,), int32."""
        number = int(np.searchsorted(self._first, position, side="right")) - 1
        part, at = self._parts[number], position - self._first[number]
        return part.ids[part.offsets[at] : part.offsets[at + 1]]

    def vocabulary(self, positions: np.ndarray) -> np.ndarray:
        """Return the token ids that batches of these examples can contain, ascending, padding included, int64."""
        used = {self._pad_id}
        for start in range(0, len(positions), _EXAMPLES_AT_ONCE):
            chosen = positions[start : start + _EXAMPLES_AT_ONCE]
            used.update(np.unique(np.concatenate([self.ids(position) for position in chosen])).tolist())
        return np.array(sorted(used), dtype=np.int64)

    def batch(self, positions: np.ndarray | Sequence[int]) -> dict[str, Tensor]:
        """Return a batch, padded on the right to its longest example.

        Returns:
            input_ids, attention_mask and, if the encoder uses them, token_type_ids: (batch, longest), int64;
            labels: (batch,), int64 or float32; idx: (batch,), int64.
        """
        import torch

        chosen = np.asarray(positions, dtype=np.int64)
        lengths = self.lengths[chosen]
        real = np.arange(lengths.max()) < lengths[:, None]
        made = {"input_ids": np.full(real.shape, self._pad_id, np.int64), "attention_mask": real.astype(np.int64)}
        if any(part.types is not None for part in self._parts):
            made["token_type_ids"] = np.zeros(real.shape, np.int64)
        for part, rows, flat in self._real_tokens(chosen, real):
            _fill(made["input_ids"], rows, real, part.ids[flat])
            if part.types is not None:
                _fill(made["token_type_ids"], rows, real, part.types[flat])
        made |= {**self._answers(chosen, real), "idx": self.idx[chosen]}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in made.items()}

    def _real_tokens(self, chosen: np.ndarray, real: np.ndarray) -> Iterator[tuple[Ragged, np.ndarray, np.ndarray]]:
        """Yield each part, its rows of a batch, and where their real tokens are in its flat arrays, row by row."""
        for part, first, end in zip(self._parts, self._first, self._first[1:], strict=False):
            rows = np.flatnonzero((chosen >= first) & (chosen < end))
            flat = (part.offsets[chosen[rows] - first][:, None] + np.arange(real.shape[1]))[real[rows]]
            yield part, rows, flat

    def _answers(self, chosen: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
        """Return what a batch has of labels."""
        return {"labels": self.labels[chosen]}


class TaggedExamples(EncodedExamples):
    """The windows of a split of tags. A row is a word: its label counts at its first piece, in one window.

    Attributes:
        labels: of the words, window by window, (rows,), int64; -1 without a label.
        labelled: whether a window has a labelled word, (examples,), bool.
    """

    def __init__(self, name: str, parts: Sequence[Ragged], pad_id: int) -> None:
        super().__init__(name, parts, pad_id)
        words = np.concatenate([np.asarray(part.words) for part in parts])
        at = np.flatnonzero(words >= 0)
        self._window = np.repeat(np.arange(len(self.idx)), self.lengths)[at]
        self.labels = self.labels[at]
        self._rows = word_id(self.idx[self._window], words[at])
        self.labelled = np.bincount(self._window, self.labels >= 0, len(self.idx)) > 0

    def rows_of(self, positions: np.ndarray | Sequence[int] | None = None) -> np.ndarray:
        """Return the ids of the words that some windows answer, window by window, (rows,); None: of all."""
        return self._rows if positions is None else self._rows[self.places_of(positions)]

    def places_of(self, positions: np.ndarray | Sequence[int]) -> np.ndarray:
        """Return the places of some windows' words among ``labels``, (rows,)."""
        chosen = np.asarray(positions)
        first, end = (np.searchsorted(self._window, chosen, side=side) for side in ("left", "right"))
        counts = end - first
        return np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())

    def answered(self, rows: np.ndarray) -> np.ndarray:
        """Return for every window whether all of its words are among ``rows``, (examples,), bool."""
        return np.bincount(self._window, ~np.isin(self._rows, rows), len(self.idx)) == 0

    def _answers(self, chosen: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
        words, labels = np.full(real.shape, NO_ROW, np.int64), np.full(real.shape, NO_ROW, np.int64)
        for part, rows, flat in self._real_tokens(chosen, real):
            assert part.words is not None
            _fill(words, rows, real, part.words[flat])
            _fill(labels, rows, real, part.labels[flat])
        of_words = word_id(self.idx[chosen][:, None], words)
        return {"labels": labels, "rows": np.where(words >= 0, of_words, NO_ROW)}


def _fill(into: np.ndarray, rows: np.ndarray, real: np.ndarray, values: np.ndarray) -> None:
    """Put the real tokens of some rows, flat, in their places."""
    where = np.zeros_like(real)
    where[rows] = real[rows]
    into[where] = values
