"""The losses of distillation from internal representations, as pure functions of tensors.

Source: Aguilar et al., "Knowledge Distillation from Internal Representations", AAAI 2020 (arXiv 1910.03723).
Each loss is a scalar in fp32 whatever the dtype of its inputs, the mean over the batch, differentiable in the
student; the teacher's side is detached, so no gradient ever reaches the teacher. Padding never counts.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from internal_kd.errors import UserError


def soft_label_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(z_T / T) || softmax(z_S / T)), the standard distillation loss.

    Logits: (batch, classes). With one column (regression) it is MSE(z_S, z_T) and the temperature is not used.
    T^2 keeps the gradient's scale independent of T (Hinton et al. 2015). At T = 1 the gradient is that of the
    paper's cross-entropy with soft labels.
    Raises UserError when the shapes differ or the temperature is not positive.
    """
    _require_same_shape("student and teacher logits", student_logits, teacher_logits, dimensions=2)
    if not temperature > 0:
        raise UserError(f"temperature is {temperature}; it must be greater than 0")
    student, teacher = student_logits.float(), teacher_logits.detach().float()
    if student.shape[-1] == 1:
        # Not F.mse_loss, which keeps both sides for backward and so refuses a teacher run in inference mode.
        return (student - teacher).square().mean()
    student_log_probs = F.log_softmax(student / temperature, dim=-1)
    teacher_log_probs = F.log_softmax(teacher / temperature, dim=-1)
    divergence = _kl_terms(student_log_probs, teacher_log_probs, teacher_log_probs.exp()).sum(-1).mean()
    return temperature**2 * _without_negative_rounding(divergence)


def hard_label_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the gold labels; MSE for regression.

    Logits: (batch, classes); labels: (batch,) class numbers. One column of logits or floating labels mean
    regression: labels (batch,) or of the logits' shape.
    Raises UserError when the labels do not match the logits.
    """
    if student_logits.ndim != 2:
        raise UserError(f"student logits have shape {_shape(student_logits)}; expected (batch, classes)")
    student = student_logits.float()
    if student.shape[-1] == 1 or labels.is_floating_point():
        targets = labels.float().unsqueeze(-1) if labels.ndim == 1 else labels.float()
        _require_same_shape("student logits and regression labels", student, targets, dimensions=2)
        return F.mse_loss(student, targets)
    if labels.shape != student.shape[:1]:
        raise UserError(f"labels have shape {_shape(labels)} and logits {_shape(student)}; expected one label a row")
    return F.cross_entropy(student, labels.long())


def attention_kl(student_log_probs: Tensor, teacher_log_probs: Tensor, attention_mask: Tensor) -> Tensor:
    """KL(P_T || P_S) of attention rows: summed over keys, averaged over real queries, heads and examples.

    Log-probabilities BEFORE dropout: (batch, heads, query, key); attention_mask: (batch, length), nonzero = real.
    Whatever stands on padding (-inf, the dtype's minimum, NaN) is not looked at. Teacher probability 0 at a real
    key contributes 0. An example without a real token is not an example: it leaves the mean unchanged.
    Identical inputs give exactly 0; the loss is never negative, and infinite only where the student gives probability
    0 to a key the teacher attends to. Source: paper, equation of the attention loss (mean over rows; the mean over
    heads is ours).
    Raises UserError when layer shapes (heads, lengths) differ or the mask does not fit them.
    """
    padding, lengths = _padding_and_lengths(student_log_probs, teacher_log_probs, attention_mask)
    examples = (lengths > 0).sum().clamp(min=1)
    weights = 1.0 / (student_log_probs.shape[1] * lengths.clamp(min=1) * examples)
    value = _WeightedKL.apply(student_log_probs.float(), teacher_log_probs.detach().float(), padding, weights)
    return _without_negative_rounding(value)


def attention_kl_by_head(student_log_probs: Tensor, teacher_log_probs: Tensor, attention_mask: Tensor) -> Tensor:
    """The same divergence of every map by itself, (batch, heads); its mean over heads and examples is `attention_kl`.

    For measuring, not for training. Inputs and errors as there; an example without a real token has 0.
    """
    padding, lengths = _padding_and_lengths(student_log_probs, teacher_log_probs, attention_mask)
    student, teacher = student_log_probs.float(), teacher_log_probs.float()
    rows = _kl_terms(student, teacher, teacher.exp().masked_fill_(padding, 0.0)).sum((2, 3))
    return (rows / lengths.clamp(min=1)[:, None]).clamp(min=0.0)


def cls_cosine(student_cls: Tensor, teacher_cls: Tensor) -> Tensor:
    """1 - cos(h_S, h_T) of the [CLS] hidden states, averaged over examples.

    Inputs: (batch, width). Identical inputs give exactly 0. A zero vector has no direction: against another vector it
    costs 1 (cosine 0), against a zero vector 0.
    Raises UserError when the shapes (widths) differ.
    """
    _require_same_shape("student and teacher [CLS] vectors", student_cls, teacher_cls, dimensions=2)
    student, student_is_zero = _unit_vectors(student_cls.float())
    teacher, teacher_is_zero = _unit_vectors(teacher_cls.detach().float())
    # For unit vectors 1 - cos = |a - b|^2 / 2. Unlike 1 - a.b it is exactly 0 at a = b, never negative, and keeps
    # its digits when the vectors are close, which is where training ends up.
    distances = 0.5 * (student - teacher).square().sum(-1)
    one_is_zero = student_is_zero != teacher_is_zero
    return (distances + 0.5 * one_is_zero).mean()


class _WeightedKL(torch.autograd.Function):
    """Sum of w_b * P_T * (log P_T - log P_S) over maps; its gradient is -w_b * P_T, one pass over memory."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, padding: Tensor, weights: Tensor) -> Tensor:
        probs = teacher.exp().masked_fill_(padding, 0.0)
        ctx.save_for_backward(probs, weights)
        return (_kl_terms(student, teacher, probs).sum((1, 2, 3)) * weights).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        probs, weights = ctx.saved_tensors
        return probs * (-gradients[0] * weights)[:, None, None, None], None, None, None


def _padding_and_lengths(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where attention maps (batch, heads, length, length) are padding, and each example's real tokens, (batch,)."""
    _require_same_shape("student and teacher attention", student, teacher, dimensions=4)
    batch, _, queries, keys = student.shape
    if queries != keys or attention_mask.shape != (batch, keys):
        raise UserError(
            f"attention mask has shape {_shape(attention_mask)} and attention {_shape(student)}; "
            f"expected a mask (batch, length) for attention (batch, heads, length, length)"
        )
    real = attention_mask.bool()
    # A padded query can hold a row of NaN (the softmax of nothing), so rows are masked as well as keys.
    return ~(real[:, None, :, None] & real[:, None, None, :]), real.sum(-1)


def _kl_terms(student_log_probs: Tensor, teacher_log_probs: Tensor, teacher_probs: Tensor) -> Tensor:
    """P_T * (log P_T - log P_S) elementwise, exactly 0 with zero gradient wherever teacher_probs is 0."""
    # Where P_T is 0 the difference may be inf - inf or -(-inf): 0 times it would be NaN (METHOD.md, trap 4).
    difference = (teacher_log_probs - student_log_probs).masked_fill_(teacher_probs == 0, 0.0)
    return teacher_probs * difference


def _without_negative_rounding(value: Tensor) -> Tensor:
    """Lift a divergence that rounding made slightly negative to 0; gradients pass unchanged."""
    return value - value.detach().clamp(max=0.0)


def _unit_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of length 1 along the last axis (zero vectors stay zero), and which ones were zero."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    is_zero = lengths == 0
    return vectors / lengths.masked_fill(is_zero, 1.0), is_zero.squeeze(-1)


def _require_same_shape(what: str, first: Tensor, second: Tensor, *, dimensions: int) -> None:
    if first.shape != second.shape or first.ndim != dimensions:
        raise UserError(
            f"{what} have shapes {_shape(first)} and {_shape(second)}; they must be equal, with {dimensions} axes"
        )


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
