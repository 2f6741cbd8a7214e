"""A tokenised task on disk: ragged arrays that are memory-mapped, and batches made from them.

Each split has ``<split>.idx.npy`` (int64, one per example), ``<split>.labels.npy`` (int64 class index, or float32
target), ``<split>.offsets.npy`` (int64, one more than examples), ``<split>.ids.npy`` (int32, all token ids in a row)
and, where the encoder tells the two texts of a pair apart, ``<split>.types.npy`` (uint8, beside ids).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.errors import UserError
from internal_kd.files import read_json, sha256_text

if TYPE_CHECKING:
    from torch import Tensor

    from internal_kd.artefacts import TokenizedTask

_EXAMPLES_AT_ONCE = 10_000


class TokenSplit:
    """The token ids, labels and example ids of one split; nothing is read before it is asked for.

    Attributes:
        idx: example ids, shape (examples,), int64.
        labels: class indices (int64) or targets (float32), shape (examples,); -1 where a test set has none.
        lengths: tokens of each example with special tokens, shape (examples,), int64.
    """

    def __init__(self, folder: Path, split: str, pad_id: int, has_types: bool) -> None:
        self.name = split
        self.idx = _mapped(folder / f"{split}.idx.npy")
        self.labels = _mapped(folder / f"{split}.labels.npy")
        self._offsets = _mapped(folder / f"{split}.offsets.npy")
        self.lengths = np.diff(self._offsets)
        self._ids = _mapped(folder / f"{split}.ids.npy")
        self._types = _mapped(folder / f"{split}.types.npy") if has_types else None
        self._pad_id = pad_id
        if len(self.idx) != len(self) or len(self.labels) != len(self) or len(self._ids) != self._offsets[-1]:
            raise UserError(f"{folder}: the arrays of {split} do not fit together; delete the folder and run again")

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._offsets) - 1

    def ids(self, position: int) -> np.ndarray:
        """Return the token ids of one example, shape (length,), int32."""
        return self._ids[self._offsets[position] : self._offsets[position + 1]]

    def vocabulary(self, positions: np.ndarray) -> np.ndarray:
        """Return the token ids that batches of these examples can hold, ascending, padding included, int64."""
        used = {self._pad_id}
        for start in range(0, len(positions), _EXAMPLES_AT_ONCE):
            chosen = positions[start : start + _EXAMPLES_AT_ONCE]
            used.update(np.unique(np.concatenate([self.ids(position) for position in chosen])).tolist())
        return np.array(sorted(used), dtype=np.int64)

    def batch(self, positions: np.ndarray | list[int]) -> dict[str, Tensor]:
        """Return a batch, padded on the right to its longest example.

        Returns:
            input_ids, attention_mask and, where the encoder uses them, token_type_ids: shape (batch, longest), int64;
            labels: shape (batch,), int64 or float32; idx: shape (batch,), int64.
        """
        import torch

        chosen = np.asarray(positions, dtype=np.int64)
        lengths = self.lengths[chosen]
        real = np.arange(lengths.max()) < lengths[:, None]
        # Position of every real token in the flat array, row by row.
        flat = (self._offsets[chosen][:, None] + np.arange(lengths.max()))[real]
        ids = np.full(real.shape, self._pad_id, dtype=np.int64)
        ids[real] = self._ids[flat]
        made = {"input_ids": ids, "attention_mask": real.astype(np.int64)}
        if self._types is not None:
            types = np.zeros(real.shape, dtype=np.int64)
            types[real] = self._types[flat]
            made["token_type_ids"] = types
        made |= {"labels": self.labels[chosen], "idx": self.idx[chosen]}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in made.items()}


class TokenStore:
    """A tokenised task: ``TokenStore(folder).split("train").batch([0, 1])``.

    Attributes:
        labels: names of the classes; empty for regression.
        classes: output columns, 1 for regression.
        metrics: what a training is scored by, the main one first: as of tokenising, with ``of`` as of now.
        data_sha256: one hash for all rows of the task, for a run's record.
    """

    def __init__(self, folder: Path | str) -> None:
        """Read the manifest.

        Raises:
            UserError: the folder holds none, or one that is cut short.
        """
        self.folder = Path(folder)
        manifest = read_json(self.folder / "manifest.json")
        self.task: str = manifest["task"]
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.classes: int = manifest["classes"]
        self.regression: bool = manifest["regression"]
        self.metrics: tuple[str, ...] = tuple(manifest["metrics"])
        self.max_length: int = manifest["max_length"]
        self.pad_id: int = manifest["pad_id"]
        self.splits: tuple[str, ...] = tuple(manifest["splits"])
        self.data_sha256 = sha256_text(" ".join(f"{k}:{v}" for k, v in sorted(manifest["data_sha256"].items())))
        self._has_types = {split: facts["token_type_ids"] for split, facts in manifest["splits"].items()}
        self.split = cache(self._split)

    @classmethod
    def of(cls, tokens: TokenizedTask) -> TokenStore:
        """Open a planned task's tokens; its metrics may have changed since they were made.

        Raises:
            UserError: as for a folder, or the task's data is not here.
        """
        from internal_kd.data.tasks_on_disk import read_task

        store = cls(tokens.folder)
        store.metrics = read_task(tokens.data).metrics
        return store

    def _split(self, name: str) -> TokenSplit:
        if name not in self.splits:
            raise UserError(f"task {self.task} has no split {name!r}; it has {', '.join(self.splits)}")
        return TokenSplit(self.folder, name, self.pad_id, self._has_types[name])


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; delete its folder and run again") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is cut short or no array ({error}); delete its folder and run again") from None
