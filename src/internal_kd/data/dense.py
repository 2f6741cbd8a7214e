"""Examples of one size each on disk: the pixels of images, or an encoder's word or sentence vectors.

Each split has ``<split>.idx.npy`` and ``<split>.labels.npy`` as token ids do (inputs.py), and ``<split>.pixels.npy``
(N, height, width, channels) uint8, ``<split>.embeddings.npy`` (N, tokens, width) float16 or ``<split>.sentences.npy``
(N, width) float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.learners.learner import Form

if TYPE_CHECKING:
    from torch import Tensor


class DenseExamples:
    """The examples of a split, each one array of the same shape.

    Attributes:
        name: of the split.
        idx: example ids, (examples,), int64.
        labels: class indices (int64, -1 without a label) or values (float32, NaN without), (examples,).
        lengths: 1 for every example, (examples,), int64: none is longer than another.
        labelled: whether an example has a label, (examples,), bool.
        values: (examples, ...), memory-mapped.
    """

    def __init__(self, name: str, form: Form, parts: Sequence[dict[str, np.ndarray]]) -> None:
        self.name, self.form = name, form
        self.idx = np.concatenate([part["idx"] for part in parts])
        self.labels = np.concatenate([part["labels"] for part in parts])
        self.lengths = np.ones(len(self.idx), dtype=np.int64)
        self.labelled = ~np.isnan(self.labels) if self.labels.dtype.kind == "f" else self.labels >= 0
        self.values = parts[0][form] if len(parts) == 1 else np.concatenate([part[form] for part in parts])

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.idx)

    def batch(self, positions: np.ndarray | Sequence[int]) -> dict[str, Tensor]:
        """Return a batch: the values by the name of their form (B, ...), labels and idx (B,)."""
        import torch

        chosen = np.asarray(positions, dtype=np.int64)
        made = {self.form: self.values[chosen], "labels": self.labels[chosen], "idx": self.idx[chosen]}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in made.items()}


def write_dense(folder: Path, split: str, form: Form, idx: np.ndarray, labels: np.ndarray, values: np.ndarray) -> Any:
    """Write a split's arrays; returns its entry of the manifest."""
    for name, array in (("idx", idx), ("labels", labels), (form, values)):
        np.save(folder / f"{split}.{name}.npy", array)
    return {"rows": len(idx)}
