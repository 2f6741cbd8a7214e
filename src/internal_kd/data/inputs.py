"""A task as a learner reads it, on disk: ragged token ids, memory-mapped, and batches made from them.

Each split has ``<split>.idx.npy`` (int64, one per example), ``<split>.labels.npy`` (int64 class index, -1 without a
label; or float32 value, NaN without), ``<split>.offsets.npy`` (int64, one more than examples), ``<split>.ids.npy``
(int32, the token ids of all examples in a row) and, if the encoder tells the two texts of a pair apart,
``<split>.types.npy`` (uint8, as long as ids). For tags an example is a window of a sentence, labels.npy is as long as
ids.npy, and so is ``<split>.words.npy`` (int32): the number of the word whose first piece a token is, -1 for others.
Pixels and vectors are in dense.py. Every array is compared with its recorded SHA-256 once per process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.checksums import refuse_damaged, verified
from internal_kd.data.dense import DenseExamples
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.configs import read_config
from internal_kd.learners.learner import Form, InputShape
from internal_kd.learners.rows import NO_ROW
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.tags import word_id

if TYPE_CHECKING:
    from torch import Tensor

    from internal_kd.plan.artefacts import Inputs

_EXAMPLES_AT_ONCE = 10_000
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Ragged:
    """The token ids of some examples in a row, with what belongs to them; see the arrays above."""

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


class EncodedTask:
    """A task's inputs on disk.

    Attributes:
        info: the task's facts; with ``of`` as the parameters state them now.
        splits: names of the splits.
        form: how examples are read: tokens, pixels, embeddings or sentences.
        max_length: longest input, in tokens; of token ids alone, as the next two.
        pad_id: the padding token.
        tokenizer: what decides which ids a text becomes; see ``EncoderTokenizer.identity``.

    Example:
        >>> EncodedTask("work/inputs/rte-0123456789ab").split("train").batch([0, 1])  # doctest: +SKIP
    """

    def __init__(self, folder: Path | str) -> None:
        """Read the manifest.

        Raises:
            UserError: the folder has none, or a damaged one.
        """
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        self._manifest = read_mapping(path)
        try:
            self.info = TaskInfo.from_json(self._manifest["task"])
            self.splits: tuple[str, ...] = tuple(self._manifest["splits"])
            self.form: Form = self._manifest.get("form", "tokens")
            texts = self.form == "tokens"
            self.max_length: int = self._manifest["max_length"] if texts else 0
            self.pad_id: int = self._manifest["pad_id"] if texts else 0
            self.tokenizer: str = self._manifest["tokenizer"] if texts else ""
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is truncated or damaged ({error}): delete it and run again") from None
        self._ragged = cache(self._open)

    @classmethod
    def of(cls, inputs: Inputs) -> EncodedTask:
        """Open planned inputs; metrics and licence of the task may have changed since they were made.

        Raises:
            UserError: as for a folder, or the task's data is not here.
        """
        from internal_kd.data.examples import read_task

        task = cls(inputs.folder)
        task.info = read_task(inputs.data).info
        return task

    def split(self, name: str) -> EncodedExamples | DenseExamples:
        """Return a split's examples.

        Raises:
            UserError: there is no such split.
            Damaged: an array is not what was written.
        """
        return self._examples(name, [name])

    def texts(self, name: str) -> EncodedExamples:
        """Return a split's token ids, of a task that is read as such; errors as ``split``."""
        found = self.split(name)
        assert isinstance(found, EncodedExamples)
        return found

    def training(self) -> EncodedExamples | DenseExamples:
        """Return the examples of train and, after them, of unlabelled if there is such a split; errors as ``split``."""
        names = ["train", *([UNLABELLED] if UNLABELLED in self.splits else [])]
        return self._examples("train", names)

    def _examples(self, name: str, splits: list[str]) -> EncodedExamples | DenseExamples:
        if self.form == "tokens":
            kind = TaggedExamples if self.info.kind == "tags" else EncodedExamples
            return kind(name, [self._ragged(split) for split in splits], self.pad_id)
        return DenseExamples(name, self.form, [self._arrays(split, "idx", "labels", self.form) for split in splits])

    def _open(self, split: str) -> Ragged:
        facts = self._manifest["splits"].get(split, {})
        of_words = ["words"] if "sentences" in facts else []
        types = ["types"] if facts.get("token_type_ids") else []
        part = Ragged(**self._arrays(split, "idx", "labels", "offsets", "ids", *types, *of_words))
        if not part.fits():
            refuse_damaged(self.folder, f"the arrays of {split} do not fit together")
        return part

    def _arrays(self, split: str, *names: str) -> dict[str, np.ndarray]:
        if split not in self.splits:
            raise UserError(f"task {self.info.name} has no split {split!r}; it has {', '.join(self.splits)}")
        files = {name: f"{split}.{name}.npy" for name in names}
        verified(self.folder, self._manifest, files.values())
        return {name: _mapped(self.folder, file) for name, file in files.items()}


def input_shape(inputs: Inputs) -> InputShape:
    """Return what one example is to a learner that starts from nothing.

    Raises:
        UserError: the inputs, or of token ids the encoder's configuration, are not here.
    """
    if inputs.form != "tokens":
        return InputShape(inputs.form, tuple(read_mapping(inputs.marker)["size"]))
    assert inputs.encoder is not None
    return InputShape("tokens", (int(read_config(inputs.encoder.folder)["vocab_size"]),))


def _fill(into: np.ndarray, rows: np.ndarray, real: np.ndarray, values: np.ndarray) -> None:
    """Put the real tokens of some rows, flat, in their places."""
    where = np.zeros_like(real)
    where[rows] = real[rows]
    into[where] = values


def _mapped(folder: Path, name: str) -> np.ndarray:
    try:
        return np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        refuse_damaged(folder, f"{name} cannot be read ({error})")
