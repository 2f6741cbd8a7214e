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

# Vectors whose squared distance is below this share of their squared lengths are taken as equal: what fp32 leaves of
# a difference that small is rounding, and its direction is noise.
SAME = 1e-6


def gram(vectors: Tensor) -> Tensor:
    """Return the inner products (..., n, n) of fp32 vectors (..., n, width), in fp32 also under autocast."""
    return _Gram.apply(vectors)


class _Gram(torch.autograd.Function):
    """X Xᵀ; as one matrix product backward, where autograd would make two."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            return vectors @ vectors.mT

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (vectors,) = ctx.saved_tensors
        with torch.autocast(vectors.device.type, enabled=False):
            return (gradients[0] + gradients[0].mT) @ vectors


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
    return _WindowAngleLoss.apply(student, teacher, real, min(window, student.shape[-1] - 1))


class _WindowAngleLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, real: Tensor, window: int) -> Tensor:
        size = 2 * window + 1
        counted = F.pad(real, (window, window)).unfold(1, size, 1) & real[..., None]
        counted[..., window] = False
        neighbours = counted.sum(-1)
        shares = share_of_triples(neighbours, real)
        theirs, _ = _angles(*_windows(teacher, window), counted)
        ours, inverse = _angles(*_windows(student, window), counted)
        value, gradient = _error(ours, theirs, inverse, shares[:, None, None, None], False, ctx.needs_input_grad[0])
        if gradient is not None:
            down = _towards_centre(gradient)
            gradient[..., window, :] = down
            gradient[..., window, window] = -0.5 * down.sum(-1)
            ctx.save_for_backward(_gathered(gradient, window))
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None


def angle_loss(student: Tensor, teacher: Tensor, weights: Tensor, smooth: bool = False) -> Tensor:
    """Error of the angles under which each vector of a set sees all pairs of the others, summed.

    student, teacher: inner products (..., n, n); weights: (...), what one squared error (half of it with ``smooth``,
    the smooth L1 error, which is linear above 1) contributes to the sum.
    """
    return _AngleLoss.apply(student, teacher, weights, smooth)


class _AngleLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor, smooth: bool) -> Tensor:
        counted = ~torch.eye(student.shape[-1], dtype=torch.bool, device=student.device)
        theirs, _ = _angles(*_all_centres(teacher), counted)
        ours, inverse = _angles(*_all_centres(student), counted)
        value, gradient = _error(
            ours, theirs, inverse, weights[..., None, None, None], smooth, ctx.needs_input_grad[0]
        )
        if gradient is not None:
            down = _towards_centre(gradient)
            total = gradient.sum(-3) + down
            total.diagonal(dim1=-2, dim2=-1).sub_(0.5 * down.sum(-1))
            ctx.save_for_backward(total)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None


def share_of_triples(neighbours: Tensor, real: Tensor) -> Tensor:
    """Return what one triple of an example contributes to the mean over examples; neighbours: (batch, centres)."""
    from internal_kd.distillation.arithmetic import share_of_each

    return share_of_each((neighbours * (neighbours - 1)).sum(-1), real)


def _windows(products: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products of each token's neighbours among themselves, with it, and of it with itself.

    (batch, n, 2 window + 1, 2 window + 1), (batch, n, 2 window + 1), (batch, n): views of one padded copy.
    """
    batch, length, _ = products.shape
    padded = F.pad(products, (window,) * 4)
    row, size = padded.shape[-1], 2 * window + 1
    local = padded.as_strided((batch, length, size, size), (row * row, row + 1, row, 1))
    return local, local[..., window, :], local[..., window, window]


def _gathered(gradient: Tensor, window: int) -> Tensor:
    """Add up windows (batch, n, 2 window + 1, 2 window + 1) where they overlap: (batch, n, n)."""
    batch, length, size, _ = gradient.shape
    row = length + 2 * window
    padded = gradient.new_zeros(batch, row, row)
    for first in range(size):
        # Token i's neighbour at this place of the window, with all of i's neighbours: a band of the matrix.
        band = padded.as_strided((batch, length, size), (row * row, row + 1, 1), first * row)
        band += gradient[:, :, first]
    return padded[:, window : window + length, window : window + length]


def _all_centres(products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_windows` with all vectors of the set as neighbours: (..., 1, n, n), (..., n, n), (..., n)."""
    return products.unsqueeze(-3), products, products.diagonal(dim1=-2, dim2=-1)


def _angles(local: Tensor, to_centre: Tensor, centre: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """cos of the angle at i between j and k, and 1 / distance of i and j.

    With products g: (g_jk - g_ij - g_ik + g_ii) / (d_ij d_ik). Where j is not counted or equals i both are 0.
    """
    sums = local.diagonal(dim1=-2, dim2=-1) + centre[..., None]
    squares = sums - 2 * to_centre
    none = (squares <= SAME * sums) | ~counted
    inverse = squares.masked_fill_(none, 1.0).rsqrt_().masked_fill_(none, 0.0)
    down = to_centre - 0.5 * centre[..., None]
    angles = local - down[..., :, None]
    return angles.sub_(down[..., None, :]).mul_(inverse[..., :, None]).mul_(inverse[..., None, :]), inverse


def _error(
    ours: Tensor, theirs: Tensor, inverse: Tensor, weights: Tensor, smooth: bool, needs_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The weighted error of angles, and its gradient in (g_jk - g_ij - g_ik + g_ii), symmetric in j and k."""
    difference = ours - theirs
    # A neighbour with itself: 1 on both sides, unless one side has no direction.
    difference.diagonal(dim1=-2, dim2=-1).zero_()
    if smooth:
        size = difference.abs()
        value = (torch.where(size < 1, size.square(), 2 * size - 1) * weights).sum()
        difference.clamp_(-1, 1)
    else:
        value = (difference.square().sum((-1, -2, -3)) * weights[..., 0, 0, 0]).sum()
    if not needs_gradient:
        return value, None
    difference.mul_(2 * weights)
    # The lengths: angle_jk = x_jk / sqrt(x_jj x_kk), so x_jj takes the part of the gradient along the angle itself.
    lengths = ours.mul_(difference).sum(-1)
    gradient = difference.mul_(inverse[..., :, None]).mul_(inverse[..., None, :])
    gradient.diagonal(dim1=-2, dim2=-1).sub_(lengths * inverse.square())
    return value, gradient


def _towards_centre(gradient: Tensor) -> Tensor:
    """The gradient in g_ij, (..., size): x_jk and x_kj both contain it with minus 1."""
    return -2 * gradient.sum(-1)
