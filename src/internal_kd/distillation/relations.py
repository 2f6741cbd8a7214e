"""Losses on relations: between tokens, between the levels of a token, between examples.

A relation is a number about several vectors of one model: a scaled inner product, a cosine, a distance, an angle. So
student and teacher need not have the same width, and nothing is projected. As in all losses of this package every value
is fp32, averaged inside an example over real positions, then over examples; padding never counts and the teacher's side
is detached. `rkd` alone reads across the examples of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from internal_kd.distillation.arithmetic import (
    WithGradient,
    kl_and_gradient,
    real_positions,
    require_same_tokens,
    share_of_each,
    slices,
    softmax_kl,
    without_negative_rounding,
    without_padding,
)
from internal_kd.distillation.gram import angle_loss, cosines, gram, level_gram, squared_distances, window_angle_loss
from internal_kd.errors import UserError


def relation_kl(student_vectors: Tensor, teacher_vectors: Tensor, attention_mask: Tensor, heads: int) -> Tensor:
    """KL of the relations softmax(x xᵀ / sqrt(width of a head)) of the tokens' queries, keys or values.

    Vectors: (batch, length, width), all heads side by side; widths may differ. They are split into ``heads`` relation
    heads, which need not be the models' heads. Summed over keys, averaged over real queries and heads, then over
    examples. Source: Wang et al. 2021, MiniLMv2 (arXiv 2012.15828), equation 6; with as many relation heads as the
    models have heads and the values as vectors it is the value relation of MiniLM (Wang et al. 2020, arXiv 2002.10957,
    equations 8 to 10).
    Raises UserError when the shapes or the mask do not fit, or ``heads`` does not divide a width.
    """
    require_same_tokens("student and teacher vectors", student_vectors, teacher_vectors, dimensions=3)
    real = real_positions(attention_mask, *student_vectors.shape[:2])
    student = _relations(student_vectors, real, heads, "student")
    teacher = _relations(teacher_vectors.detach(), real, heads, "teacher")
    shares = share_of_each(real.sum(-1), real)[:, None] * real / heads
    return without_negative_rounding(_RelationKL.apply(student, teacher, ~real, shares))


def _relations(vectors: Tensor, real: Tensor, heads: int, whose: str) -> Tensor:
    """Vectors split into heads, (batch, heads, length, width of a head), whose inner products are the scores."""
    batch, length, width = vectors.shape
    if heads < 1 or width % heads:
        raise UserError(f"{heads} relation heads do not divide the {whose}'s width of {width}")
    parts = without_padding(vectors, real) * (width // heads) ** -0.25
    return parts.view(batch, length, heads, width // heads).transpose(1, 2)


class _RelationKL(WithGradient):
    """Scores, softmax, divergence and gradient of a few examples at a time, so that all of it stays in the cache."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, padding: Tensor, row_weights: Tensor) -> Tensor:
        value = student.new_zeros(())
        gradient = torch.empty_like(student) if ctx.needs_input_grad[0] else None
        _, heads, length, _ = student.shape
        with torch.autocast(student.device.type, enabled=False):
            for part in slices(len(student), heads * length**2, student.device):
                ours, theirs = student[part], teacher[part]
                divergence, slope = kl_and_gradient(
                    ours @ ours.mT,
                    theirs @ theirs.mT,
                    padding[part, None, None],
                    row_weights[part, None],
                    gradient is not None,
                )
                value += divergence
                if gradient is not None and slope is not None:
                    gradient[part] = (slope + slope.mT) @ ours
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return value


def word_relation(
    student_hidden: Tensor,
    teacher_hidden: Tensor,
    attention_mask: Tensor,
    window: int = 10,
    distance_weight: float = 1.0,
    angle_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Relations between the tokens of a layer: (distance, angle), each with its weight.

    Hidden states: (batch, length, width); widths may differ. Distance: for each real token the softmax of its cosines
    with the other real tokens; KL(teacher || student), averaged over real tokens, 0 for a single one. Angle: for each
    real token i and real j, k, different and at most ``window`` positions from i, the cosine of the angle at i between
    j and k; squared error, averaged over those triples, 0 if there are none. A zero difference has direction 0. Then
    averaged over examples. Memory grows with length * window^2.
    Inner products in fp32 lose digits where all tokens share a part that is much longer than what differs between them:
    the gradient was off by 0.06 % at 30 times, by 0.9 % at 100.
    Source: Park, Kim, Yang 2021, Contextual Knowledge Distillation (arXiv 2109.08359), word relation; the divisors are
    ours, the authors' code divides the distance by the squared length.
    Raises UserError when the shapes or the mask do not fit or the window is not positive.
    """
    if window < 1:
        raise UserError(f"window is {window}; it must be at least 1 position")
    student, teacher, real = _word_products(student_hidden, teacher_hidden, attention_mask)
    angle = window_angle_loss(student, teacher, real, window)
    return distance_weight * _word_distance(student, teacher, real), angle_weight * angle


def _word_products(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    require_same_tokens("student and teacher hidden states", student, teacher, dimensions=3)
    real = real_positions(attention_mask, *student.shape[:2])
    return gram(without_padding(student, real)), gram(without_padding(teacher.detach(), real)), real


def _word_distance(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    others = real[:, None] & ~_diagonal(student)
    shares = share_of_each(real.sum(-1), real)[:, None] * real
    return softmax_kl(cosines(student), cosines(teacher), others, shares)


def layer_relation(
    student_stack: Tensor,
    teacher_stack: Tensor,
    attention_mask: Tensor,
    distance_weight: float = 1.0,
    angle_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Relations between the levels of a token: (distance, angle), each with its weight.

    Stacked hidden states: (batch, levels, length, width); widths may differ. As `word_relation`, with the levels of one
    token in place of the words of one layer and all other levels as neighbours: averaged over real tokens and levels,
    or triples of different levels, then over examples. The distance is 0 below 3 levels, as is the angle.
    Digits are lost as there: where the levels share a part 60 times as long as what differs between them the gradient
    was off by 0.3 %, at 200 times by 4 %.
    Source: Park, Kim, Yang 2021, Contextual Knowledge Distillation (arXiv 2109.08359), layer transforming relation.
    Raises UserError when the shapes or the mask do not fit.
    """
    student, teacher, real = _layer_products(student_stack, teacher_stack, attention_mask)
    distance, angle = _layer_distance(student, teacher, real), _layer_angle(student, teacher, real)
    return distance_weight * distance, angle_weight * angle


def _layer_products(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    require_same_tokens("student and teacher hidden states", student, teacher, dimensions=4)
    batch, _, length, _ = student.shape
    real = real_positions(attention_mask, batch, length)
    return level_gram(student, real), level_gram(teacher.detach(), real), real


def _layer_distance(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    levels = student.shape[-1]
    shares = share_of_each(real.sum(-1) * levels, real)[:, None] * real
    return softmax_kl(cosines(student), cosines(teacher), ~_diagonal(student), shares[..., None])


def _layer_angle(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    levels = student.shape[-1]
    triples = levels * (levels - 1) * (levels - 2)
    shares = share_of_each(real.sum(-1) * triples, real)[:, None] * real
    return angle_loss(student.flatten(0, 1), teacher.flatten(0, 1), shares.flatten())


def _diagonal(products: Tensor) -> Tensor:
    return torch.eye(products.shape[-1], dtype=torch.bool, device=products.device)


def rkd(
    student_cls: Tensor, teacher_cls: Tensor, distance_weight: float = 1.0, angle_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Relations between the examples of a batch: (distance, angle), each with its weight.

    [CLS] vectors: (batch, width); widths may differ. Distance: distances between examples divided by their mean over
    pairs that differ; smooth L1 error, averaged over batch^2. Angle: cosine of the angle at one example between two
    others; smooth L1 error, averaged over batch^3. Vectors closer than 1e-3 of their length, as seen from the batch's
    mean, count as equal: their distance and angles are 0. Both terms are 0 for a single example, and depend on which
    examples share a batch, so that micro-batches change them. Memory grows with batch^3.
    Source: Park et al. 2019, Relational Knowledge Distillation (arXiv 1904.05068), equations 3 to 9; the weights of the
    objective `rkd`, 1 and 2, are the authors'.
    Raises UserError when the batches differ.
    """
    require_same_tokens("student and teacher [CLS] vectors", student_cls, teacher_cls, dimensions=2)
    student, teacher = _example_products(student_cls), _example_products(teacher_cls.detach())
    distance = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))
    # `angle_loss` sums the smooth L1 errors twice.
    weight = student.new_full((1,), 0.5 / max(1, student.shape[-1] ** 3))
    return distance_weight * distance, angle_weight * angle_loss(student, teacher, weight, smooth=True)


def _example_products(vectors: Tensor) -> Tensor:
    """Inner products (1, batch, batch) after subtracting the mean: those of similar vectors would lose digits."""
    vectors = vectors.float()
    return gram((vectors - vectors.mean(0))[None])


def _relative_distances(products: Tensor) -> Tensor:
    squares = squared_distances(products)
    apart = squares > 0
    # The square root has no slope at 0.
    distances = squares.masked_fill(~apart, 1.0).sqrt().masked_fill(~apart, 0.0)
    mean = distances.sum() / apart.sum().clamp(min=1)
    return distances / torch.where(apart.any(), mean, 1.0)


def qkv_relation(
    student_queries: Tensor,
    teacher_queries: Tensor,
    student_keys: Tensor,
    teacher_keys: Tensor,
    student_values: Tensor,
    teacher_values: Tensor,
    attention_mask: Tensor,
    heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`relation_kl` of the queries, of the keys and of the values of a layer, each (batch, length, width).

    Source: Wang et al. 2021, MiniLMv2 (arXiv 2012.15828), equation 6.
    Raises UserError as `relation_kl`.
    """
    return (
        relation_kl(student_queries, teacher_queries, attention_mask, heads),
        relation_kl(student_keys, teacher_keys, attention_mask, heads),
        relation_kl(student_values, teacher_values, attention_mask, heads),
    )
