"""Losses on relations: between tokens, between the levels of a token, between examples.

A relation is a number about several vectors of one model: a scaled inner product, a cosine, a distance, an angle. So
student and teacher need not have the same width, and nothing is projected. As in all losses of this package every value
is fp32, averaged inside an example over real positions, then over examples; padding never counts and the teacher's side
is detached. `rkd` alone reads across the examples of a batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from internal_kd.distillation.arithmetic import (
    real_positions,
    require_same_tokens,
    share_of_each,
    softmax_kl,
    without_padding,
)
from internal_kd.distillation.gram import angle_loss, cosines, gram, share_of_triples, squared_distances, window_angle_loss
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
    return softmax_kl(student, teacher, real[:, None, None], shares[:, None])


def _relations(vectors: Tensor, real: Tensor, heads: int, whose: str) -> Tensor:
    batch, length, width = vectors.shape
    if heads < 1 or width % heads:
        raise UserError(f"{heads} relation heads do not divide the {whose}'s width of {width}")
    parts = without_padding(vectors, real).view(batch, length, heads, width // heads).transpose(1, 2)
    return gram(parts * (width // heads) ** -0.25)


def word_relation(
    student_hidden: Tensor, teacher_hidden: Tensor, attention_mask: Tensor, window: int = 10
) -> tuple[Tensor, Tensor]:
    """Relations between the tokens of a layer: (distance, angle).

    Hidden states: (batch, length, width); widths may differ. Distance: for each real token the softmax of its cosines
    with the other real tokens; KL(teacher || student), averaged over real tokens, 0 for a single one. Angle: for each
    real token i and real j, k, different and at most ``window`` positions from i, the cosine of the angle at i between
    j and k; squared error, averaged over those triples, 0 if there are none. A zero difference has direction 0. Then
    averaged over examples. Memory grows with length * window^2.
    Source: Park, Kim, Yang 2021, Contextual Knowledge Distillation (arXiv 2109.08359), word relation; the divisors are
    ours, the authors' code divides the distance by the squared length.
    Raises UserError when the shapes or the mask do not fit or the window is not positive.
    """
    if window < 1:
        raise UserError(f"window is {window}; it must be at least 1 position")
    student, teacher, real = _word_products(student_hidden, teacher_hidden, attention_mask)
    return _word_distance(student, teacher, real), window_angle_loss(student, teacher, real, window)


def _word_products(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    require_same_tokens("student and teacher hidden states", student, teacher, dimensions=3)
    real = real_positions(attention_mask, *student.shape[:2])
    return gram(without_padding(student, real)), gram(without_padding(teacher.detach(), real)), real


def _word_distance(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    others = real[:, None] & ~_diagonal(student)
    shares = share_of_each(real.sum(-1), real)[:, None] * real
    return softmax_kl(cosines(student), cosines(teacher), others, shares)


def layer_relation(student_stack: Tensor, teacher_stack: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Relations between the levels of a token: (distance, angle).

    Stacked hidden states: (batch, levels, length, width); widths may differ. As `word_relation`, with the levels of one
    token in place of the words of one layer and all other levels as neighbours: averaged over real tokens and levels,
    or triples of different levels, then over examples. The distance is 0 below 3 levels, as is the angle.
    Source: Park, Kim, Yang 2021, Contextual Knowledge Distillation (arXiv 2109.08359), layer transforming relation.
    Raises UserError when the shapes or the mask do not fit.
    """
    student, teacher, real = _layer_products(student_stack, teacher_stack, attention_mask)
    return _layer_distance(student, teacher, real), _layer_angle(student, teacher, real)


def _layer_products(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    require_same_tokens("student and teacher hidden states", student, teacher, dimensions=4)
    batch, _, length, _ = student.shape
    real = real_positions(attention_mask, batch, length)
    # (batch, length, levels, width): the levels of each token.
    tokens = [without_padding(stack.transpose(1, 2).flatten(2), real).view(batch, length, stack.shape[1], -1)
              for stack in (student, teacher.detach())]
    return gram(tokens[0]), gram(tokens[1]), real


def _layer_distance(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    levels = student.shape[-1]
    shares = share_of_each(real.sum(-1) * levels, real)[:, None] * real
    return softmax_kl(cosines(student), cosines(teacher), ~_diagonal(student), shares[..., None])


def _layer_angle(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    levels = student.shape[-1]
    triples = levels * (levels - 1) * (levels - 2)
    shares = share_of_each(real.sum(-1) * triples, real)[:, None] * real
    return angle_loss(student, teacher, shares)


def _diagonal(products: Tensor) -> Tensor:
    return torch.eye(products.shape[-1], dtype=torch.bool, device=products.device)
