"""Attention KL and [CLS] cosine as anyone writes them who is handed attention probabilities; for the plain loop and,
registered as their users register losses, for the peers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

TINY = 1e-9


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(P_T || P_S) of probabilities (batch, heads, query, key), averaged over real queries, heads, examples.

    mask: (batch, length). Dropout leaves zeros and rows that do not sum to 1, hence the small constant: eager attention
    hands out nothing better.
    """
    real = mask.to(student.dtype)
    rows = (teacher * ((teacher + TINY).log() - (student + TINY).log()) * real[:, None, None, :]).sum(-1)
    return ((rows * real[:, None, :]).sum(-1) / real.sum(-1, keepdim=True)).mean()


def cls_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos of the first token's states; inputs (batch, length, width)."""
    return 1 - F.cosine_similarity(student[:, 0], teacher[:, 0], dim=-1).mean()


def soft_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of the logits (batch, classes) at temperature 1."""
    return F.kl_div(F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="batchmean")
