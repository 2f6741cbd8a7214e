"""Dropout on a CPU from few random numbers.

torch draws more than one 32-bit number of a sequential generator for every element, which on a CPU came to a sixth of
a training step. Here 16 bits decide about an element, and a generator made for speed delivers them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 1 << 16


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


def use_quick_dropout(model: nn.Module) -> None:
    """Replace a model's dropout modules; its weights and their names stay what they were."""
    for name, module in list(model.named_modules()):
        if type(module) is nn.Dropout:
            model.set_submodule(name, Dropout(module.p).train(module.training))


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
