"""Faster on a CPU: dropout from few random numbers, word embeddings of the words that occur, memory that is kept.

torch draws more than one 32-bit number of a sequential generator for every element that dropout decides about, which
on a CPU came to a sixth of a training step. Here 16 bits decide about an element, and a generator made for speed
delivers them.

An optimizer step over a table of 30,522 words costs a CPU as much as some encoder layers, and a small training set
shows the model a fraction of them. The other words get no gradient, only weight decay; here they are left alone, so a
word that training never shows keeps its pre-trained embedding.

glibc gives a large block back to the kernel as soon as it is free, and a step that asks for it again gets pages that
the kernel clears one by one: half a million of them, a twelfth of the time, in a training of 150 steps.

    with freed_memory_kept(torch.device("cpu")), quick_on_cpu(network.module, examples.vocabulary(positions)):
        optimizer = AdamW(network.module.parameters())
        ...
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 1 << 16

# Of glibc's mallopt (malloc.h, mallopt(3)), with its defaults.
_TRIM_THRESHOLD, _TRIM_DEFAULT = -1, 128 * 1024
_MMAP_MAX, _MMAP_DEFAULT = -4, 65536


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Inside the block memory that is freed on a CPU stays with the process; afterwards it goes back to the system.

    Nothing happens for another device, or where malloc is not glibc's.
    """
    libc: Any = ctypes.CDLL(None) if device.type == "cpu" and sys.platform == "linux" else None
    if not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _MMAP_DEFAULT)
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        libc.malloc_trim(0)


@contextmanager
def quick_on_cpu(module: nn.Module, token_ids: np.ndarray | None = None) -> Iterator[None]:
    """Inside the block a module on a CPU trains faster; on a GPU nothing changes.

    Its dropout draws less, and of its word embeddings it trains the rows ``token_ids``, and no other: an id that is
    not among them is an IndexError in train mode. Make the optimizer inside the block, since the trained rows are a
    parameter of their own. Afterwards the module is what it was, with the trained rows in its table.

    Args:
        module: a transformers model, or any other, which has its dropout replaced only.
        token_ids: (words,) ids in any order, padding included; None trains the whole table.
    """
    if next(module.parameters()).device.type != "cpu":
        yield
        return
    replaced = [(name, part) for name, part in module.named_modules() if type(part) is nn.Dropout]
    for name, part in replaced:
        module.set_submodule(name, Dropout(part.p).train(part.training))
    model: Any = module  # only transformers' models name their table of words
    table = model.get_input_embeddings() if hasattr(module, "get_input_embeddings") else None
    rows = None
    if token_ids is not None and type(table) is nn.Embedding:
        rows = UsedRows(table, torch.as_tensor(np.unique(token_ids), dtype=torch.int64))
        model.set_input_embeddings(rows)
    try:
        yield
    finally:
        if rows is not None:
            rows.write_back()
            model.set_input_embeddings(table)
        for name, part in replaced:
            module.set_submodule(name, part.train(module.get_submodule(name).training))


def dropout(values: Tensor, p: float, training: bool) -> Tensor:
    """Zero elements with probability p and scale the others by 1 / (1 - p), of a tensor of any shape.

    On a CPU p is rounded to a multiple of 2^-16, and what is drawn depends on torch's random state alone, so seeds
    and checkpoints hold for it. On a GPU this is torch's own dropout.
    """
    if not training or p == 0.0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, p)
    return _Dropout.apply(values, p)


class Dropout(nn.Dropout):
    """``nn.Dropout`` by way of `dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the tensor with elements dropped while training."""
        return dropout(values, self.p, self.training)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        threshold = min(round(p * _STEPS), _STEPS)
        kept = _kept(values, threshold)
        ctx.save_for_backward(kept)
        ctx.scale = _STEPS / (_STEPS - threshold) if threshold < _STEPS else 0.0
        # Scaled after masking: 1 / (1 - p) itself has too few digits in bf16.
        return (values * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None


def _kept(values: Tensor, threshold: int) -> Tensor:
    """Return 1 for an element kept and 0 for one dropped, in the dtype and shape of ``values``."""
    count = values.numel()
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw(-(-count // 4))
    bits = torch.from_numpy(words.view(np.int16))[:count].view(values.shape)
    return torch.ge(bits, threshold - _STEPS // 2, out=torch.empty(values.shape, dtype=values.dtype))


class UsedRows(nn.Module):
    """Stands for an ``nn.Embedding`` while some of its rows are trained.

    Attributes:
        weight: the trained rows, shape (rows used, width).
        used: their ids, ascending.
    """

    def __init__(self, embedding: nn.Embedding, used: Tensor) -> None:
        """``used``: ids in ascending order, shape (rows used,), on the embedding's device."""
        super().__init__()
        whole = embedding.weight.detach()
        self._whole, self.used = whole, used
        self._places = torch.full((len(whole),), -1, device=used.device).scatter_(
            0, used, torch.arange(len(used), device=used.device)
        )
        pad = embedding.padding_idx
        # torch gives the padding row no gradient.
        self._padding = None if pad is None or self._places[pad] < 0 else int(self._places[pad])
        self.weight = nn.Parameter(whole[used].clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Return embeddings of shape (*ids.shape, width); in eval mode of every word, while training of used ones."""
        if self.training:
            return F.embedding(self._places[ids], self.weight, self._padding)
        return F.embedding(ids, self._whole)

    def train(self, mode: bool = True) -> UsedRows:
        """Switch the mode; on the way to eval mode the table learns its trained rows."""
        super().train(mode)
        if not mode:
            self.write_back()
        return self

    def write_back(self) -> None:
        """Put the trained rows into the table."""
        self._whole[self.used] = self.weight.detach()
