"""Answers on disk: ragged, 16-bit, read example by example, looked up by example id.

Layout of a folder, rows in the order of ``ids.npy``::

    ids.npy                  (N,) int64            example ids
    lengths.npy              (N,) int64            tokens of each example, padding excluded
    rows.npy                 (R,) int64            ids of the rows of logits, of tags alone: otherwise those of examples
    logits.npy               (N or R, C) fp32
    cls-L<l>.npy             (N, D) fp16
    hidden-L<l>.npy          (sum of n * D,) fp16                example after example, as all that follow
    attention-L<l>.npy       (sum of H * n * n,) fp16            log-probabilities before dropout
    attention_lse-L<l>.npy   (sum of H * n,) fp16
    queries-L<l>.npy, keys-L<l>.npy, values-L<l>.npy   (sum of n * inner,) fp16

No padding is stored. A batch is looked up by its examples' ids, so shuffling and re-batching cannot mispair. Written by
memory map, read by position: pages of a map would count as this process's memory until it holds all of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from internal_kd.distillation.declarations import KINDS
from internal_kd.distillation.recording_size import Sizes, stored, token_counts
from internal_kd.errors import UserError
from internal_kd.learners.learner import Captured, Wanted

# fp16 ends at 65504; a log-probability below the lower limit stands for a probability of 0 in any precision.
LIMIT = 60000.0


def as_recorded(kind: str, tensor: Tensor) -> Tensor:
    """Return a tensor as the disk keeps it, whether it goes there or not."""
    return tensor.float() if kind == "logits" else tensor.clamp(-LIMIT, LIMIT).to(torch.float16)


class RecordingWriter:
    """Fills a folder's arrays, examples in any order.

    Args:
        sizes: of the axes that occur: classes, width, heads, inner.
        rows: ids of the rows of logits, if they are not the examples.

    Raises:
        OSError: the disk has no room for the arrays.

    Example:
        >>> writer = RecordingWriter(folder, ids, lengths, wanted, {"classes": 2, "width": 768})  # doctest: +SKIP
        >>> writer.write(rows, live.answers(batch, writer.wanted))  # doctest: +SKIP
        >>> writer.flush()  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: Path,
        ids: np.ndarray,
        lengths: np.ndarray,
        wanted: Wanted,
        sizes: Sizes,
        rows: np.ndarray | None = None,
    ) -> None:
        self.wanted = stored(wanted)
        self._rows = None if rows is None else np.asarray(rows).astype(np.int64)
        if self._rows is not None:
            np.save(folder / "rows.npy", self._rows)
            self._order = np.argsort(self._rows, kind="stable")
        self._lengths = np.asarray(lengths).astype(np.int64)
        np.save(folder / "ids.npy", np.asarray(ids).astype(np.int64))
        np.save(folder / "lengths.npy", self._lengths)
        self._arrays: dict[tuple[str, int], np.memmap] = {}
        self._offsets: dict[str, np.ndarray] = {}
        for kind, layer in sorted(self.wanted):
            fixed = math.prod(sizes[axis] for axis in KINDS[kind].axes if axis != "tokens")
            offsets = self._offsets[kind] = fixed * _offsets(kind, self._lengths)
            answered = len(self._lengths if self._rows is None or kind != "logits" else self._rows)
            shape = (int(offsets[-1]),) if KINDS[kind].per_token else (answered, fixed)
            dtype = np.float32 if kind == "logits" else np.float16
            self._arrays[kind, layer] = _mapped(folder / file_name(kind, layer), dtype, shape)

    def write(self, places: np.ndarray, captured: Captured, rows: np.ndarray | None = None) -> None:
        """Store a batch whose examples are at ``places`` of the arrays; padding is cut off.

        ``rows`` are the ids of its rows of logits, where those are not the examples.
        """
        for (kind, layer), array in self._arrays.items():
            values = as_recorded(kind, captured[kind, layer]).cpu().numpy()
            if kind == "logits" and self._rows is not None and rows is not None:
                array[self._order[np.searchsorted(self._rows[self._order], rows)]] = values
                continue
            if not KINDS[kind].per_token:
                array[places] = values
                continue
            offsets = self._offsets[kind]
            for position, row in enumerate(places):
                real = _real(kind, int(self._lengths[row]))
                array[offsets[row] : offsets[row + 1]] = values[position][real].ravel()

    def flush(self) -> None:
        """Hand everything to the disk."""
        for array in self._arrays.values():
            array.flush()


class RecordingReader:
    """Reads batches by example id; it keeps an id, a length and an offset for every example in memory.

    Args:
        verify: called with the path of each array before it is first read; raises UserError for a damaged one.

    Raises:
        UserError: the arrays are missing, truncated or damaged.
    """

    def __init__(self, folder: Path, verify: Callable[[Path], None] | None = None) -> None:
        self._folder, self._verify = folder, verify
        self._open: dict[str, _Rows] = {}
        self._there: dict[str, bool] = {}
        self._of_examples = _Lookup(self._complete("ids.npy"))
        tags = (folder / "rows.npy").exists()
        self._of_rows = _Lookup(self._complete("rows.npy")) if tags else self._of_examples
        self._lengths = self._complete("lengths.npy")
        self._offsets: dict[str, np.ndarray] = {}

    @property
    def row_ids(self) -> np.ndarray:
        """The ids of the rows of logits that were recorded, ascending, (rows,), int64."""
        return self._of_rows.ids

    def has(self, kind: str, layer: int) -> bool:
        """Whether a kind of a layer was recorded."""
        name = file_name(kind, layer)
        if name not in self._there:
            self._there[name] = (self._folder / name).exists()
        return self._there[name]

    def bytes_per_example(self, wanted: Wanted) -> float:
        """Return the bytes an example that the disk keeps of ``wanted``; what was not recorded takes none."""
        names = {file_name(kind, layer) for kind, layer in stored(wanted) if self.has(kind, layer)}
        return sum(self._array(name).bytes for name in names) / len(self._of_examples.ids)

    def read(
        self,
        ids: Tensor,
        length: int,
        wanted: Iterable[tuple[str, int]],
        *,
        rows: Tensor | None = None,
        pinned: bool = False,
    ) -> Captured:
        """Return what was recorded of examples ``ids`` (B,), on the CPU; token axes are padded with zeros.

        Args:
            rows: ids of the batch's rows of logits, where those are not the examples, (R,).
            pinned: whether to return page-locked memory, which a GPU copies from without waiting.

        Raises:
            UserError: an example or a layer was not recorded, or an array is damaged.
        """
        found: Captured = {}
        for kind, layer in wanted:
            if kind == "logits":
                places = self._places(self._of_rows, ids if rows is None else rows)
            else:
                places = self._places(self._of_examples, ids)
            if KINDS[kind].per_token and (longest := int(self._lengths[places].max())) > length:
                raise UserError(
                    f"{self._folder}: {kind} was recorded of {longest} tokens where the batch has {length}; the "
                    "recording belongs to another tokenizer or maximum length"
                )
            found[kind, layer] = self._read(kind, layer, places, length, pinned)
        return found

    def _read(self, kind: str, layer: int, rows: np.ndarray, length: int, pinned: bool) -> Tensor:
        array = self._array(file_name(kind, layer))
        if kind not in self._offsets:
            counted = self._of_rows.ids if kind == "logits" else self._lengths
            self._offsets[kind] = _offsets(kind, counted)
        offsets = self._offsets[kind]
        fixed = array.size // int(offsets[-1])
        shape = [length if axis == "tokens" else fixed for axis in KINDS[kind].axes]
        dtype = torch.float32 if kind == "logits" else torch.float16
        made = torch.zeros(len(rows), *shape, dtype=dtype, pin_memory=pinned)
        values = made.numpy()
        for position, row in enumerate(rows):
            real = _real(kind, int(self._lengths[row]) if KINDS[kind].per_token else 0)
            place = values[position][real]
            place[...] = array.read(fixed * int(offsets[row]), place.size).reshape(place.shape)
        return made

    def _places(self, among: _Lookup, asked: Tensor) -> np.ndarray:
        ids = asked.cpu().numpy()
        places = np.searchsorted(among.ids, ids).clip(max=len(among.ids) - 1)
        if (unknown := ids[among.ids[places] != ids]).size:
            raise UserError(f"{self._folder} holds no answers for example {unknown[0]}; delete it and run again")
        return among.order[places]

    def _complete(self, name: str) -> np.ndarray:
        array = self._array(name)
        return array.read(0, array.size)

    def _array(self, name: str) -> _Rows:
        if name not in self._open:
            path = self._folder / name
            if self._verify is not None:
                self._verify(path)
            try:
                self._open[name] = _Rows(path)
            except (OSError, ValueError) as error:
                raise UserError(f"{path} is missing or truncated; delete {self._folder} and run again") from error
        return self._open[name]


def file_name(kind: str, layer: int) -> str:
    """Return the name of an array's file.

    Example:
        >>> file_name("hidden", 3), file_name("logits", 0)
        ('hidden-L3.npy', 'logits.npy')
    """
    return f"{kind}-L{layer}.npy" if KINDS[kind].by_layer else f"{kind}.npy"


class _Lookup:
    """Where ids lie: ``ids`` ascending, and their places in the order of the arrays."""

    def __init__(self, ids: np.ndarray) -> None:
        self.order = np.argsort(ids, kind="stable")
        self.ids = ids[self.order]


class _Rows:
    """One array on disk that is read a few elements at a time."""

    def __init__(self, path: Path) -> None:
        # The map is only asked for the array's shape and where it begins; none of its pages is touched.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        self.size, self._dtype, self._begin = mapped.size, mapped.dtype, int(mapped.offset)
        self._file = path.open("rb", buffering=0)

    @property
    def bytes(self) -> int:
        """What the array takes on disk, its header left out."""
        return self.size * self._dtype.itemsize

    def read(self, start: int, count: int) -> np.ndarray:
        """Return ``count`` elements of the flattened array from element ``start`` on."""
        itemsize = self._dtype.itemsize
        found = os.pread(self._file.fileno(), count * itemsize, self._begin + start * itemsize)
        return np.frombuffer(found, self._dtype, count)


def _mapped(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap:
    array = open_memmap(path, "w+", dtype, shape)
    # A map of a file with holes kills the process where the disk, which others fill too, has no block for a page.
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _real(kind: str, length: int) -> tuple[slice, ...]:
    """The part of one example's padded tensor that is not padding."""
    return tuple(slice(length if axis == "tokens" else None) for axis in KINDS[kind].axes)


def _offsets(kind: str, lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(token_counts(kind, lengths))])
