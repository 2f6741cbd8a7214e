"""Losses on attention: log-probabilities before dropout, or scores, (batch, heads, query, key), as pure functions.

Each is an fp32 scalar, averaged inside an example over real positions, then over examples; whatever stands on padding
(-inf, the dtype's minimum, NaN) is not looked at, and the teacher's side is detached. ``attention_mask`` is
(batch, length), nonzero for real tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from internal_kd.distillation.arithmetic import (
    kl_terms,
    real_positions,
    require_same_shape,
    shape_of,
    share_of_each,
    unit_vectors,
    without_negative_rounding,
)
from internal_kd.errors import UserError


def attention_kl(student_log_probs: Tensor, teacher_log_probs: Tensor, attention_mask: Tensor) -> Tensor:
    """KL(P_T || P_S) of attention rows: summed over keys, averaged over real queries, heads and examples.

    Log-probabilities before dropout: (batch, heads, query, key); attention_mask: (batch, length), nonzero = real.
    A teacher's probability of 0 at a real key contributes 0. An example without a real token is not an example: it
    leaves the mean unchanged. Identical inputs give exactly 0; the loss is never negative, and infinite only where the
    student gives probability 0 to a key that the teacher attends to.
    Source: Aguilar et al. 2020, Knowledge Distillation from Internal Representations (arXiv 1910.03723): the mean over
    rows is the paper's, the mean over heads is ours.
    Raises UserError when layer shapes (heads, lengths) differ or the mask does not fit them.
    """
    padding, lengths = _padding_and_lengths(student_log_probs, teacher_log_probs, attention_mask)
    weights = share_of_each(student_log_probs.shape[1] * lengths, attention_mask.bool())
    value = _WeightedKL.apply(student_log_probs.float(), teacher_log_probs.detach().float(), padding, weights)
    return without_negative_rounding(value)


def attention_kl_by_head(student_log_probs: Tensor, teacher_log_probs: Tensor, attention_mask: Tensor) -> Tensor:
    """The same divergence of each map alone, (batch, heads); its mean over heads and examples is `attention_kl`.

    For measuring, not for training. Inputs and errors as for `attention_kl`; an example without a real token has 0.
    """
    padding, lengths = _padding_and_lengths(student_log_probs, teacher_log_probs, attention_mask)
    student, teacher = student_log_probs.float(), teacher_log_probs.float()
    rows = kl_terms(student, teacher, _probabilities(teacher, padding)).sum((2, 3))
    return (rows / lengths.clamp(min=1)[:, None]).clamp(min=0.0)


def attention_score_mse(
    student_scores: Tensor, teacher_scores: Tensor, attention_mask: Tensor, centred: bool = False
) -> Tensor:
    """Squared error of attention scores before the softmax, averaged over heads, real queries and real keys.

    Scores: (batch, heads, length, length): log-probabilities plus the logarithm of their row's sum of exponentials.
    centred: each row minus its mean over real keys. A softmax ignores a constant in its row, so the rest is what the
    attention does; published methods compare the raw scores.
    Source: Jiao et al. 2020, TinyBERT (arXiv 1909.10351), equation 7; the mask and ``centred`` are ours.
    Raises UserError when layer shapes (heads, lengths) differ or the mask does not fit them.
    """
    padding, lengths = _padding_and_lengths(student_scores, teacher_scores, attention_mask)
    difference = (student_scores.float() - teacher_scores.detach().float()).masked_fill(padding, 0.0)
    if centred:
        means = difference.sum(-1, keepdim=True) / lengths.clamp(min=1)[:, None, None, None]
        difference = (difference - means).masked_fill(padding, 0.0)
    shares = share_of_each(lengths.square() * student_scores.shape[1], attention_mask.bool())
    return (difference.square().sum((1, 2, 3)) * shares).sum()


def attention_transfer(student_log_probs: Tensor, teacher_log_probs: Tensor, attention_mask: Tensor) -> Tensor:
    """Squared error of how much each token is looked at, averaged over real keys.

    Log-probabilities: (batch, heads, length, length); head counts may differ. A key's weight is the sum of its squared
    probabilities over heads and real queries, divided by the length of the vector of all real keys' weights.
    Source: Zagoruyko and Komodakis 2017, Paying More Attention to Attention (arXiv 1612.03928), as in the authors' code
    (mean of squares); heads and queries stand for channels and keys for positions, which is ours.
    Raises UserError when batch or lengths differ or the mask does not fit them.
    """
    batch, _, length, _ = student_log_probs.shape if student_log_probs.ndim == 4 else (0, 0, 0, 0)
    for whose, maps in (("student", student_log_probs), ("teacher", teacher_log_probs)):
        if maps.ndim != 4 or (maps.shape[0], *maps.shape[2:]) != (batch, length, length):
            raise UserError(
                f"{whose} attention has shape {shape_of(maps)}; expected (batch, heads, length, length), "
                "with the batch and length of the other side"
            )
    real = real_positions(attention_mask, batch, length)
    student, teacher = _looked_at(student_log_probs, real), _looked_at(teacher_log_probs.detach(), real)
    shares = share_of_each(real.sum(-1), real)
    return ((student - teacher).square().sum(-1) * shares).sum()


def _looked_at(log_probs: Tensor, real: Tensor) -> Tensor:
    """The unit vector of keys' weights, (batch, length), 0 on padding."""
    probs = _probabilities(log_probs, _padding_of_maps(real))
    return unit_vectors(probs.square().sum((1, 2)))[0]


class _WeightedKL(torch.autograd.Function):
    """Sum of w_b * P_T * (log P_T - log P_S) over maps; its gradient is -w_b * P_T, one pass over memory."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, padding: Tensor, weights: Tensor) -> Tensor:
        probs = _probabilities(teacher, padding)
        ctx.save_for_backward(probs, weights)
        return (kl_terms(student, teacher, probs).sum((1, 2, 3)) * weights).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        probs, weights = ctx.saved_tensors
        return probs * (-gradients[0] * weights)[:, None, None, None], None, None, None


def _probabilities(log_probs: Tensor, padding: Tensor) -> Tensor:
    """fp32 probabilities with 0 on padding."""
    # 0, not -inf, under the exponential: it is ten times slower where its result underflows.
    return log_probs.float().masked_fill(padding, 0.0).exp() * ~padding


def _padding_and_lengths(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where attention maps (batch, heads, length, length) are padding, and each example's real tokens, (batch,)."""
    require_same_shape("student and teacher attention", student, teacher, dimensions=4)
    batch, _, queries, keys = student.shape
    if queries != keys:
        raise UserError(f"attention has shape {shape_of(student)}; expected (batch, heads, length, length)")
    real = real_positions(attention_mask, batch, keys)
    return _padding_of_maps(real), real.sum(-1)


def _padding_of_maps(real: Tensor) -> Tensor:
    """Bool (batch, 1, length, length)."""
    # A padded query can hold a row of NaN (the softmax of nothing), so rows are masked as well as keys.
    return ~(real[:, None, :, None] & real[:, None, None, :])
