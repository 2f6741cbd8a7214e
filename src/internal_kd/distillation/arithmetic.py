"""What the losses share: real positions, means over them, divergences and directions that never become NaN.

Whatever a tensor holds on padding (NaN, infinity, leftovers) is replaced by 0 before anything is computed from it:
0 * NaN is NaN, so multiplying by the mask afterwards is too late, in the loss and in its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from internal_kd.errors import UserError

# Stands for minus infinity in a softmax: its exponential is 0, and 0 times it is 0.
VERY_LOW = -1e30
# Values of a tensor that is worked on in a CPU's cache: 1 MiB of fp32.
CACHED = 2**18


def shape_of(tensor: Tensor) -> str:
    """Return the shape of a tensor for a message."""
    return str(tuple(tensor.shape))


def require_same_shape(what: str, first: Tensor, second: Tensor, *, dimensions: int) -> None:
    """Raise UserError unless both tensors have the same shape, with that many axes."""
    if first.shape != second.shape or first.ndim != dimensions:
        raise UserError(
            f"{what} have shapes {shape_of(first)} and {shape_of(second)}; they must be equal, with {dimensions} axes"
        )


def require_same_tokens(what: str, first: Tensor, second: Tensor, *, dimensions: int) -> None:
    """Raise UserError unless both tensors have the same shape but for the width, their last axis."""
    if first.shape[:-1] != second.shape[:-1] or first.ndim != dimensions or second.ndim != dimensions:
        raise UserError(
            f"{what} have shapes {shape_of(first)} and {shape_of(second)}; "
            f"they must be equal except for the last of {dimensions} axes"
        )


def require_temperature(temperature: float) -> None:
    """Raise UserError unless a temperature is positive and finite."""
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature is {temperature}; it must be greater than 0, and finite")


def require_classes(what: str, logits: Tensor) -> None:
    """Raise UserError unless logits are (batch, classes) of two classes or more."""
    if logits.ndim != 2 or logits.shape[-1] < 2:
        raise UserError(
            f"{what} needs logits (batch, classes) of 2 classes or more; they have shape {shape_of(logits)}"
        )


def require_class_labels(what: str, logits: Tensor, labels: Tensor) -> None:
    """Raise UserError unless labels (batch,) number a class of the logits (batch, classes) for every row."""
    require_classes(what, logits)
    if labels.is_floating_point() or labels.shape != logits.shape[:1]:
        raise UserError(
            f"{what} needs one class number a row; labels have shape {shape_of(labels)} and dtype {labels.dtype}, "
            f"logits {shape_of(logits)}"
        )
    classes = logits.shape[-1]
    # On the CPU alone: the values of a GPU's labels would have to be waited for.
    if labels.device.type == "cpu" and len(outside := labels[(labels < 0) | (labels >= classes)]):
        raise UserError(
            f"{what}: label {outside[0].item()} is not a class; with {classes} columns of logits classes are 0 to "
            f"{classes - 1}; leave out examples without a label"
        )


def real_positions(attention_mask: Tensor, batch: int, length: int) -> Tensor:
    """Return which positions are real, bool (batch, length).

    Raises:
        UserError: the mask has another shape.
    """
    if attention_mask.shape != (batch, length):
        raise UserError(
            f"attention mask has shape {shape_of(attention_mask)}; "
            f"expected {(batch, length)}, the batch and length of what it belongs to"
        )
    return attention_mask.bool()


def share_of_each(counts: Tensor, real: Tensor) -> Tensor:
    """Return what one of an example's ``counts`` values (batch,) contributes to the mean of the examples' means.

    An example without a real token is not an example: it contributes nothing and does not enlarge the mean's divisor.
    One with real tokens but no value (a single token has no neighbour) is an example whose loss is 0.
    """
    examples = real.any(-1).sum().clamp(min=1)
    return (counts > 0) / (counts.clamp(min=1) * examples)


def without_padding(vectors: Tensor, real: Tensor) -> Tensor:
    """Return the vectors (batch, length, width) in fp32 with 0 on padding."""
    return vectors.float().masked_fill(~real[..., None], 0.0)


def kl_terms(student_log_probs: Tensor, teacher_log_probs: Tensor, teacher_probs: Tensor) -> Tensor:
    """P_T * (log P_T - log P_S) elementwise, exactly 0 with zero gradient wherever teacher_probs is 0."""
    # Where P_T is 0 the difference may be inf - inf or -(-inf): 0 times it would be NaN.
    difference = (teacher_log_probs - student_log_probs).masked_fill_(teacher_probs == 0, 0.0)
    return teacher_probs * difference


def without_negative_rounding(value: Tensor) -> Tensor:
    """Lift a divergence that rounding made slightly negative to 0; gradients pass unchanged."""
    return value - value.detach().clamp(max=0.0)


def unit_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors of length 1 along the last axis (zero vectors stay zero), and which ones were zero."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    is_zero = lengths == 0
    return vectors / lengths.masked_fill(is_zero, 1.0), is_zero.squeeze(-1)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos of fp32 vectors along the last axis.

    Identical vectors give exactly 0. A zero vector has no direction: against another vector it costs 1 (cosine 0),
    against a zero vector 0.
    """
    student_unit, student_is_zero = unit_vectors(student)
    teacher_unit, teacher_is_zero = unit_vectors(teacher)
    # For unit vectors 1 - cos = |a - b|^2 / 2. Unlike 1 - a.b it is exactly 0 at a = b, never negative, and keeps
    # its digits when the vectors are close, which is where training ends up.
    return 0.5 * ((student_unit - teacher_unit).square().sum(-1) + (student_is_zero != teacher_is_zero))


def softmax_kl(student_scores: Tensor, teacher_scores: Tensor, allowed: Tensor, row_weights: Tensor) -> Tensor:
    """Sum over rows of weight * KL(softmax(teacher row) || softmax(student row)).

    Scores: fp32 (..., columns), finite; allowed: the columns that a softmax may see, bool, broadcast to the scores;
    row_weights: (...), broadcast to the rows. A row without an allowed column costs 0.
    """
    return without_negative_rounding(_SoftmaxKL.apply(student_scores, teacher_scores, ~allowed, row_weights))


def kl_and_gradient(
    student: Tensor, teacher: Tensor, excluded: Tensor, row_weights: Tensor, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the value of `softmax_kl` and, on demand, its gradient in the student's scores, weight * (P_S - P_T)."""
    student, teacher = student.masked_fill(excluded, VERY_LOW), teacher.masked_fill(excluded, VERY_LOW)
    difference = F.log_softmax(teacher, dim=-1).sub_(F.log_softmax(student, dim=-1))
    # Not exp(log_softmax): exp is some ten times slower where its result underflows.
    teacher_probs = F.softmax(teacher, dim=-1)
    value = (difference.mul_(teacher_probs).sum(-1) * row_weights).sum()
    if not gradient:
        return value, None
    return value, F.softmax(student, dim=-1).sub_(teacher_probs).mul_(row_weights[..., None])


def require_first_derivative() -> None:
    """Raise UserError in a backward of our own that is asked for a graph: it would be differentiated as a constant."""
    if torch.is_grad_enabled():
        raise UserError("a relation between vectors has no second derivative: leave out create_graph, or the term")


class WithGradient(torch.autograd.Function):
    """A scalar of its first argument whose forward computes the gradient along with the value, and saves it."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient that was saved, and none for the other arguments."""
        require_first_derivative()
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], *[None] * (len(ctx.needs_input_grad) - 1)


class _SoftmaxKL(WithGradient):
    """One tensor is kept for the gradient instead of six."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, excluded: Tensor, row_weights: Tensor) -> Tensor:
        value, gradient = kl_and_gradient(student, teacher, excluded, row_weights, ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return value


def slices(examples: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Yield parts of a batch whose intermediate tensors, of ``numbers`` values an example, stay in a processor's cache.

    A GPU gets the batch in one part, unless it is huge.
    """
    size = max(1, (CACHED if device.type == "cpu" else 2**26) // max(1, numbers))
    for start in range(0, examples, size):
        yield slice(start, start + size)
