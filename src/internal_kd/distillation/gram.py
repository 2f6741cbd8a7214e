"""Gram matrices and the angles that follow from them: relations between vectors without their differences.

The inner products of n vectors, n x n numbers, determine all distances and angles between them. Angles of every pair of
neighbours as seen from every token thus cost (n, window, window) numbers, where differences of vectors would cost
(n, window, width), and student and teacher may have any width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from internal_kd.distillation.arithmetic import WithGradient, require_first_derivative, share_of_each, slices

# Vectors whose squared distance is below this share of their squared lengths are taken as equal: what fp32 leaves of
# a difference that small is rounding, and its direction is noise.
SAME = 1e-6


def gram(vectors: Tensor) -> Tensor:
    """Return the inner products (batch, n, n) of fp32 vectors (batch, n, width), in fp32 also under autocast."""
    return _Gram.apply(vectors)


class _Gram(torch.autograd.Function):
    """X Xᵀ; with one matrix product backward, where autograd would make two."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            return torch.bmm(vectors, vectors.mT)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (vectors,) = ctx.saved_tensors
        with torch.autocast(vectors.device.type, enabled=False):
            return torch.bmm(gradients[0] + gradients[0].mT, vectors)


def level_gram(stack: Tensor, real: Tensor) -> Tensor:
    """Return each token's inner products between levels, (batch, n, levels, levels).

    stack: (batch, levels, n, width); real: (batch, n). In fp32 also under autocast; 0 for a token that is not real,
    whatever it holds.
    """
    return _LevelGram.apply(stack.float(), ~real)


class _LevelGram(torch.autograd.Function):
    """Example by example on views: bringing the levels of a token together would copy the stack, which takes longer."""

    @staticmethod
    def forward(ctx: Any, stack: Tensor, padding: Tensor) -> Tensor:
        ctx.save_for_backward(stack, padding)
        batch, levels, length, _ = stack.shape
        products = stack.new_empty(batch, length, levels, levels)
        with torch.autocast(stack.device.type, enabled=False):
            for example, tokens in zip(products, stack.transpose(1, 2), strict=True):
                torch.bmm(tokens, tokens.mT, out=example)
        return products.masked_fill_(padding[..., None, None], 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        require_first_derivative()
        stack, padding = ctx.saved_tensors
        total = gradients[0] + gradients[0].mT
        result = torch.empty_like(stack)
        with torch.autocast(stack.device.type, enabled=False):
            for example, tokens, product in zip(result, stack.transpose(1, 2), total, strict=True):
                example.copy_(torch.bmm(product, tokens).transpose(0, 1))
        return result.masked_fill_(padding[:, None, :, None], 0.0), None


def cosines(products: Tensor) -> Tensor:
    """Return the cosines (..., n, n) from inner products (..., n, n); a zero vector has cosine 0 with all."""
    squares = products.diagonal(dim1=-2, dim2=-1)
    is_zero = squares <= 0
    inverse = squares.masked_fill(is_zero, 1.0).rsqrt().masked_fill(is_zero, 0.0)
    return products * inverse[..., :, None] * inverse[..., None, :]


def squared_distances(products: Tensor) -> Tensor:
    """Return the squared distances (..., n, n) from inner products (..., n, n); exactly 0 for equal vectors."""
    squares = products.diagonal(dim1=-2, dim2=-1)
    sums = squares[..., :, None] + squares[..., None, :]
    distances = sums - 2 * products
    return distances.masked_fill(distances <= SAME * sums, 0.0)


def window_angle_loss(student: Tensor, teacher: Tensor, real: Tensor, window: int) -> Tensor:
    """Squared error of the angles under which each token sees the pairs of its neighbours.

    student, teacher: inner products (batch, n, n), 0 on padding; real: (batch, n); neighbours: real tokens at most
    ``window`` positions away. Averaged over all (token, neighbour, other neighbour), then over examples.
    """
    window = min(window, student.shape[-1] - 1)
    counted = F.pad(real, (window, window)).unfold(1, 2 * window + 1, 1) & real[..., None]
    counted[..., window] = False
    neighbours = counted.sum(-1)
    shares = share_of_each((neighbours * (neighbours - 1)).sum(-1), real)
    return _AngleLoss.apply(student, teacher, counted, shares[:, None].expand_as(real), window, False)


def angle_loss(student: Tensor, teacher: Tensor, weights: Tensor, smooth: bool = False) -> Tensor:
    """Error of the angles under which each vector of a set sees all pairs of the others, summed.

    student, teacher: inner products (sets, n, n); weights: (sets), what one squared error (half of it with ``smooth``,
    the smooth L1 error, which is linear above 1) contributes to the sum.
    """
    size = student.shape[-1]
    counted = ~torch.eye(size, dtype=torch.bool, device=student.device).expand_as(student)
    return _AngleLoss.apply(student, teacher, counted, weights[:, None].expand(-1, size), None, smooth)


class _AngleLoss(WithGradient):
    """Value and gradient in one pass over parts that fit a cache; with ``window`` None all vectors are neighbours.

    counted: which neighbours a centre has, (sets, centres, neighbours); weights: (sets, centres).
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        counted: Tensor,
        weights: Tensor,
        window: int | None,
        smooth: bool,
    ) -> Tensor:
        value = student.new_zeros(())
        gradient = torch.empty_like(student) if ctx.needs_input_grad[0] else None
        for part in slices(len(student), counted[0].numel() * counted.shape[-1], student.device):
            theirs, _ = _angles(teacher[part], counted[part], window)
            ours, inverse = _angles(student[part], counted[part], window)
            error, slope = _error(ours, theirs, weights[part], smooth)
            value += error
            if gradient is not None:
                _gather(_through_lengths(slope, ours, inverse), window, gradient[part])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return value


def _angles(products: Tensor, counted: Tensor, window: int | None) -> tuple[Tensor, Tensor]:
    """cos of the angle at i between j and k, (sets, i, j, k), and 1 / distance of i and j, (sets, i, j).

    With products g: (g_jk - g_ij - g_ik + g_ii) / (d_ij d_ik). Where j is not counted or equals i both are 0.
    """
    local, to_centre, centre = _neighbourhoods(products, window)
    sums = local.diagonal(dim1=-2, dim2=-1) + centre[..., None]
    squares = sums - 2 * to_centre
    none = (squares <= SAME * sums) | ~counted
    inverse = squares.masked_fill_(none, 1.0).rsqrt_().masked_fill_(none, 0.0)
    down = to_centre - 0.5 * centre[..., None]
    angles = local - down[..., :, None]
    return angles.sub_(down[..., None, :]).mul_(inverse[..., :, None]).mul_(inverse[..., None, :]), inverse


def _neighbourhoods(products: Tensor, window: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products of each centre's neighbours with each other, with it, and of it with itself.

    (sets, centres or 1, neighbours, neighbours), (sets, centres, neighbours), (sets, centres).
    """
    if window is None:
        return products.unsqueeze(1), products, products.diagonal(dim1=-2, dim2=-1)
    batch, length, _ = products.shape
    padded = F.pad(products, (window,) * 4)
    row, size = padded.shape[-1], 2 * window + 1
    # One copy, seen as overlapping blocks along the diagonal.
    local = padded.as_strided((batch, length, size, size), (row * row, row + 1, row, 1))
    return local, local[..., window, :], local[..., window, window]


def _error(ours: Tensor, theirs: Tensor, weights: Tensor, smooth: bool) -> tuple[Tensor, Tensor]:
    """The weighted error of angles, and its derivative in each of ours."""
    difference = ours - theirs
    # A neighbour with itself: 1 on both sides, unless one side has no direction.
    difference.diagonal(dim1=-2, dim2=-1).zero_()
    if smooth:
        size = difference.abs()
        value = (torch.where(size < 1, size.square(), 2 * size - 1).sum((-1, -2)) * weights).sum()
        difference.clamp_(-1, 1)
    else:
        value = (difference.square().sum((-1, -2)) * weights).sum()
    return value, difference.mul_((2 * weights)[..., None, None])


def _through_lengths(slope: Tensor, angles: Tensor, inverse: Tensor) -> Tensor:
    """The gradient in x_jk = g_jk - g_ij - g_ik + g_ii, given that in angle_jk = x_jk / sqrt(x_jj x_kk)."""
    lengths = angles.mul_(slope).sum(-1) * inverse.square()
    gradient = slope.mul_(inverse[..., :, None]).mul_(inverse[..., None, :])
    gradient.diagonal(dim1=-2, dim2=-1).sub_(lengths)
    return gradient


def _gather(gradient: Tensor, window: int | None, result: Tensor) -> None:
    """Add up what all centres' neighbourhoods contribute to the gradient in the inner products g."""
    to_centre = -2 * gradient.sum(-1)
    centre = -0.5 * to_centre.sum(-1)
    if window is None:
        torch.sum(gradient, 1, out=result)
        result += to_centre
        result.diagonal(dim1=-2, dim2=-1).add_(centre)
        return
    gradient[..., window, :] = to_centre
    gradient[..., window, window] = centre
    batch, length, size, _ = gradient.shape
    row = length + 2 * window
    padded = gradient.new_zeros(batch, row, row)
    for first in range(size):
        # The neighbour in this place of each window, with all of that window: a band of the matrix.
        band = padded.as_strided((batch, length, size), (row * row, row + 1, 1), first * row)
        band += gradient[:, :, first]
    result.copy_(padded[:, window : window + length, window : window + length])
