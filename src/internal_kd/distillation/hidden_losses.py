"""Losses on hidden states, as pure functions: of [CLS] (batch, width), or of all tokens (batch, length, width).

Each is an fp32 scalar, averaged inside an example over real tokens, then over examples; padding is never looked at and
the teacher's side is detached. Widths must agree: a narrower student's side is projected before.
"""

from __future__ import annotations

from torch import Tensor

from internal_kd.distillation.arithmetic import (
    cosine_distance,
    real_positions,
    require_same_shape,
    share_of_each,
    unit_vectors,
    without_padding,
)


def cls_cosine(student_cls: Tensor, teacher_cls: Tensor) -> Tensor:
    """1 - cos(h_S, h_T) of the [CLS] hidden states, averaged over examples.

    Inputs: (batch, width). Identical inputs give exactly 0. A zero vector has no direction: against another vector it
    costs 1 (cosine 0), against a zero vector 0.
    Source: Aguilar et al. 2020, Knowledge Distillation from Internal Representations (arXiv 1910.03723).
    Raises UserError when the shapes (widths) differ.
    """
    require_same_shape("student and teacher [CLS] vectors", student_cls, teacher_cls, dimensions=2)
    return cosine_distance(student_cls.float(), teacher_cls.detach().float()).mean()


def patient_cls(student_cls: Tensor, teacher_cls: Tensor) -> Tensor:
    """Squared error of the [CLS] hidden states divided by their lengths, averaged over width and examples.

    Inputs: (batch, width). It is 2 / width times `cls_cosine`, since |a - b|^2 = 2 - 2 cos for unit vectors.
    Source: Sun et al. 2019, Patient Knowledge Distillation (arXiv 1908.09355), equation 7, with the average over the
    width of the authors' code.
    Raises UserError when the shapes (widths) differ.
    """
    return 2 / student_cls.shape[-1] * cls_cosine(student_cls, teacher_cls)


def hidden_mse(student_hidden: Tensor, teacher_hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Squared error of hidden states, averaged over width and real tokens.

    Hidden states: (batch, length, width); attention_mask: (batch, length), nonzero for real tokens.
    Source: Jiao et al. 2020, TinyBERT (arXiv 1909.10351), equations 8 and 9.
    Raises UserError when the shapes (widths) differ or the mask does not fit.
    """
    require_same_shape("student and teacher hidden states", student_hidden, teacher_hidden, dimensions=3)
    real = real_positions(attention_mask, *student_hidden.shape[:2])
    difference = without_padding(student_hidden.float() - teacher_hidden.detach().float(), real)
    shares = share_of_each(real.sum(-1) * student_hidden.shape[-1], real)
    return (difference.square().sum((1, 2)) * shares).sum()


def hidden_cosine(student_hidden: Tensor, teacher_hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """1 - cos(h_S, h_T) of each real token's hidden states, averaged over real tokens.

    Hidden states: (batch, length, width); attention_mask: (batch, length), nonzero for real tokens. Zero vectors as in
    `cls_cosine`.
    Source: Sanh et al. 2019, DistilBERT (arXiv 1910.01108), its cosine embedding loss.
    Raises UserError when the shapes (widths) differ or the mask does not fit.
    """
    require_same_shape("student and teacher hidden states", student_hidden, teacher_hidden, dimensions=3)
    real = real_positions(attention_mask, *student_hidden.shape[:2])
    student, teacher = without_padding(student_hidden, real), without_padding(teacher_hidden.detach(), real)
    shares = share_of_each(real.sum(-1), real)
    # On padding both sides are 0: distance 0.
    return (cosine_distance(student, teacher).sum(-1) * shares).sum()


def token_energy(student_hidden: Tensor, teacher_hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Squared error of how large each token's hidden state is among its text's, averaged over real tokens.

    Hidden states: (batch, length, width); widths may differ. A token's energy is the sum of its squares over the width,
    divided by the length of the vector of all real tokens' energies. attention_mask: (batch, length), nonzero for real
    tokens.
    Source: Zagoruyko and Komodakis 2017, Paying More Attention to Attention (arXiv 1612.03928), as in the code of
    Crowley, Gray and Storkey 2018 (arXiv 1711.02613); tokens stand for positions, which is ours.
    Raises UserError when batch or lengths differ or the mask does not fit.
    """
    require_same_shape("student and teacher tokens", student_hidden[..., 0], teacher_hidden[..., 0], dimensions=2)
    real = real_positions(attention_mask, *student_hidden.shape[:2])
    student, teacher = (
        unit_vectors(without_padding(hidden, real).square().sum(-1))[0]
        for hidden in (student_hidden, teacher_hidden.detach())
    )
    return ((student - teacher).square().sum(-1) * share_of_each(real.sum(-1), real)).sum()
