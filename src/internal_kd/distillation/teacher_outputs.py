"""A frozen teacher's outputs on disk: ragged, 16-bit, read row by row, found by example id.

Layout of a folder, rows in the order of ``ids.npy``::

    ids.npy                (n,) int64          example ids
    lengths.npy            (n,) int64          tokens of each example, padding excluded
    logits.npy             (n, classes) fp32
    cls-L<l>.npy           (n, width) fp16     [CLS] leaving layer l
    attention-L<l>.npy     (sum of heads * length^2,) fp16   log-probabilities before dropout, example after example

No padding is stored. A batch is looked up by its examples' ids, so shuffling and re-batching cannot mispair. Written by
memory map, read by position: pages of a map would count as this process's memory until it has all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from internal_kd.errors import UserError

# fp16 ends at 65504; a log-probability below this floor stands for a probability of 0 in any precision.
LOG_FLOOR = -60000.0


@dataclass(frozen=True)
class TeacherBatch:
    """What a teacher says about one batch, padded like the batch.

    logits: (batch, classes); cls[l]: (batch, width); attention[l]: (batch, heads, length, length) log-probabilities.
    """

    logits: Tensor
    cls: dict[int, Tensor]
    attention: dict[int, Tensor]


def as_recorded(log_probs: Tensor) -> Tensor:
    """Return attention log-probabilities as the disk keeps them, whether they go there or not."""
    return log_probs.clamp(min=LOG_FLOOR).to(torch.float16)


def attention_bytes(lengths: np.ndarray, heads: int) -> int:
    """Return the bytes one layer's attention takes on disk for examples of these lengths."""
    return int(2 * heads * np.square(lengths.astype(np.int64)).sum())


class TeacherOutputsWriter:
    """Fills a folder's arrays, example by example in any order."""

    def __init__(
        self,
        folder: Path,
        ids: np.ndarray,
        lengths: np.ndarray,
        *,
        classes: int,
        width: int,
        heads: int,
        cls_layers: Iterable[int],
        attention_layers: Iterable[int],
    ) -> None:
        """Allocate the arrays in ``folder``; an OSError where the disk has no room for them."""
        self._lengths, self._heads = lengths.astype(np.int64), heads
        np.save(folder / "ids.npy", ids.astype(np.int64))
        np.save(folder / "lengths.npy", self._lengths)
        self._offsets = _offsets(self._lengths, heads)
        self._logits = _mapped(folder / "logits.npy", np.float32, (len(ids), classes))
        self._cls = {
            layer: _mapped(folder / f"cls-L{layer}.npy", np.float16, (len(ids), width)) for layer in cls_layers
        }
        self._attention = {
            layer: _mapped(folder / f"attention-L{layer}.npy", np.float16, (int(self._offsets[-1]),))
            for layer in attention_layers
        }

    def write(self, rows: np.ndarray, outputs: TeacherBatch) -> None:
        """Store a batch whose examples are ``rows`` of the arrays."""
        self._logits[rows] = outputs.logits.float().cpu().numpy()
        for layer, array in self._cls.items():
            array[rows] = outputs.cls[layer].to(torch.float16).cpu().numpy()
        for layer, array in self._attention.items():
            log_probs = as_recorded(outputs.attention[layer]).cpu().numpy()
            for position, row in enumerate(rows):
                length = self._lengths[row]
                array[self._offsets[row] : self._offsets[row + 1]] = log_probs[position, :, :length, :length].ravel()

    def flush(self) -> None:
        """Hand everything to the disk."""
        for array in (self._logits, *self._cls.values(), *self._attention.values()):
            array.flush()


def _mapped(path: Path, kind: type[np.generic], shape: tuple[int, ...]) -> np.memmap:
    array = open_memmap(path, "w+", kind, shape)
    # A map of a file with holes kills the process where the disk, which others fill too, has no block for a page.
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


class _Rows:
    """One array on disk, of which some elements at a time are read."""

    def __init__(self, path: Path) -> None:
        # The map is only asked for the array's shape and where it begins; none of its pages is touched.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape, self._dtype = mapped.shape, mapped.dtype
        self._begin = int(mapped.offset)
        self._file = path.open("rb", buffering=0)

    def read(self, start: int, count: int) -> np.ndarray:
        """Return ``count`` elements of the flattened array from element ``start`` on."""
        size = self._dtype.itemsize
        found = os.pread(self._file.fileno(), count * size, self._begin + start * size)
        return np.frombuffer(found, self._dtype, count)

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Return rows of a two-dimensional array, shape (len(chosen), columns)."""
        columns = self.shape[1]
        return np.stack([self.read(int(row) * columns, columns) for row in chosen])


class TeacherOutputsReader:
    """Reads batches by example id; what it holds in memory is an id, a length and an offset for every example."""

    def __init__(self, folder: Path) -> None:
        """Open the arrays; a layer's when it is first asked for.

        Raises:
            UserError: the folder's arrays are missing or cut short.
        """
        self._folder = folder
        self._open: dict[str, _Rows] = {}
        ids = self._whole("ids")
        self._order = np.argsort(ids, kind="stable")
        self._sorted_ids = ids[self._order]
        self._lengths = self._whole("lengths")
        self._squares = _offsets(self._lengths, 1)

    def has(self, kind: str, layer: int) -> bool:
        """Whether a layer's ``cls`` or ``attention`` was recorded."""
        return (self._folder / f"{kind}-L{layer}.npy").exists()

    def read(
        self, ids: Tensor, length: int, cls_layers: Iterable[int], attention_layers: Iterable[int]
    ) -> TeacherBatch:
        """Return the outputs of examples ``ids`` (batch,), attention padded to ``length`` with zeros.

        Raises:
            UserError: an example or a layer was not recorded.
        """
        rows = self._rows(ids.cpu().numpy())
        attention = {layer: self._attention(layer, rows, length) for layer in attention_layers}
        cls = {layer: torch.from_numpy(self._array(f"cls-L{layer}").rows(rows)) for layer in cls_layers}
        return TeacherBatch(torch.from_numpy(self._array("logits").rows(rows)), cls, attention)

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self._sorted_ids, ids).clip(max=len(self._sorted_ids) - 1)
        if (unknown := ids[self._sorted_ids[places] != ids]).size:
            raise UserError(
                f"{self._folder} holds no teacher outputs for example {unknown[0]}; delete it and run again"
            )
        return self._order[places]

    def _attention(self, layer: int, rows: np.ndarray, length: int) -> Tensor:
        maps = self._array(f"attention-L{layer}")
        heads = maps.shape[0] // int(self._squares[-1])
        padded = np.zeros((len(rows), heads, length, length), dtype=np.float16)
        for position, row in enumerate(rows):
            real = int(self._lengths[row])
            block = maps.read(heads * int(self._squares[row]), heads * real * real).reshape(heads, real, real)
            padded[position, :, :real, :real] = block
        return torch.from_numpy(padded)

    def _whole(self, name: str) -> np.ndarray:
        array = self._array(name)
        return array.read(0, array.shape[0])

    def _array(self, name: str) -> _Rows:
        if name not in self._open:
            path = self._folder / f"{name}.npy"
            try:
                self._open[name] = _Rows(path)
            except (OSError, ValueError) as error:
                raise UserError(f"{path} is missing or cut short; delete {self._folder} and run again") from error
        return self._open[name]


def _offsets(lengths: np.ndarray, heads: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(heads * np.square(lengths.astype(np.int64)))])
