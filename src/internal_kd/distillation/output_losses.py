"""Losses on a model's outputs, the logits (batch, classes), as pure functions.

Each is an fp32 scalar, the mean over the examples of a batch; the teacher's side is detached.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from internal_kd.distillation.arithmetic import (
    VERY_LOW,
    cosine_distance,
    kl_terms,
    require_class_labels,
    require_classes,
    require_same_shape,
    require_temperature,
    without_negative_rounding,
)
from internal_kd.errors import UserError

# A row or column of probabilities whose spread is below this share of its length is constant but for rounding.
CONSTANT = 1e-6


def soft_label_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, weights: Tensor | float = 1.0
) -> Tensor:
    """T^2 * KL(softmax(z_T / T) || softmax(z_S / T)), the standard distillation loss.

    Logits: (batch, classes); weights: (batch,), what each example counts in the mean over all.
    With one column (regression) it is MSE(z_S, z_T) and the temperature is not used.
    T^2 keeps the gradient's scale independent of T. At T = 1 the gradient is that of the cross-entropy with soft
    labels.
    Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network (arXiv 1503.02531), section 2.
    Raises UserError when the shapes differ or the temperature is not positive.
    """
    require_same_shape("student and teacher logits", student_logits, teacher_logits, dimensions=2)
    require_temperature(temperature)
    student, teacher = student_logits.float(), teacher_logits.detach().float()
    if student.shape[-1] == 1:
        # Not F.mse_loss, which keeps both sides for backward and so refuses a teacher run in inference mode.
        return (weights * (student - teacher).square().squeeze(-1)).mean()
    student_log_probs = F.log_softmax(student / temperature, dim=-1)
    teacher_log_probs = F.log_softmax(teacher / temperature, dim=-1)
    divergence = kl_terms(student_log_probs, teacher_log_probs, teacher_log_probs.exp()).sum(-1)
    return temperature**2 * without_negative_rounding((weights * divergence).mean())


def hard_label_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the gold labels; MSE for regression.

    Logits: (batch, classes); labels: (batch,) class numbers. One column of logits or floating labels mean
    regression: labels (batch,) or of the logits' shape.
    Raises UserError when the labels do not match the logits.
    """
    student = student_logits.float()
    if student.shape[-1:] == (1,) or labels.is_floating_point():
        targets = labels.float().unsqueeze(-1) if labels.ndim == 1 else labels.float()
        require_same_shape("student logits and regression labels", student, targets, dimensions=2)
        return F.mse_loss(student, targets)
    require_class_labels("cross-entropy", student, labels)
    return F.cross_entropy(student, labels.long())


def label_smoothing(student_logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with (1 - smoothing) * gold label + smoothing / classes.

    Logits: (batch, classes); labels: (batch,) class numbers; smoothing: from 0, the plain cross-entropy, to below 1.
    Source: Szegedy et al. 2016, Rethinking the Inception Architecture (arXiv 1512.00567), section 7.
    Raises UserError when the labels do not match the logits, for regression, or when smoothing is out of range.
    """
    require_class_labels("label smoothing", student_logits, labels)
    if not 0 <= smoothing < 1:
        raise UserError(f"smoothing is {smoothing}; it must be at least 0 and less than 1")
    return F.cross_entropy(student_logits.float(), labels.long(), label_smoothing=smoothing)


def confidence_penalty(student_logits: Tensor, beta: float) -> Tensor:
    """beta * KL(softmax(z_S) || uniform): the penalty on confident answers.

    Logits: (batch, classes). The paper's -beta * entropy plus the constant beta * log(classes), so the gradient is the
    same, but the value is never negative and 0 for the uniform answer.
    Source: Pereyra et al. 2017, Regularizing Neural Networks by Penalizing Confident Output Distributions (arXiv
    1701.06548).
    Raises UserError for regression.
    """
    require_classes("confidence penalty", student_logits)
    log_probs = F.log_softmax(student_logits.float(), dim=-1)
    uniform = torch.full_like(log_probs, 1 / log_probs.shape[-1]).log()
    return beta * without_negative_rounding(kl_terms(uniform, log_probs, log_probs.exp()).sum(-1).mean())


def beta_smoothing(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, a: float) -> Tensor:
    """Cross-entropy with b * gold label + (1 - b) / (classes - 1) * all others, with a new b for every example.

    The draws of Beta(a, 1) are sorted: the k-th smallest goes to the example whose gold label has the k-th smallest
    probability by the teacher; nothing else of it is read. Logits: (batch, classes); labels: (batch,) class numbers.
    Draws come from torch's random state, which the loop seeds before every step.
    Source: Zhang and Sabuncu 2020, Self-Distillation as Instance-Specific Label Smoothing (arXiv 2006.05065),
    whose teacher is an average of the student's weights (`teacher: {average: 0.999}`).
    Raises UserError when shapes or labels do not match, for regression, or when a is not positive.
    """
    require_same_shape("student and teacher logits", student_logits, teacher_logits, dimensions=2)
    require_class_labels("beta smoothing", student_logits, labels)
    if not a > 0:
        raise UserError(f"a is {a}; it must be greater than 0")
    gold = labels.long().unsqueeze(-1)
    sureness = F.log_softmax(teacher_logits.detach().float(), dim=-1).gather(-1, gold).squeeze(-1)
    # u ** (1 / a) of a uniform u is a draw of Beta(a, 1).
    draws = torch.rand(len(gold)).pow(1 / a).sort().values.to(sureness.device)
    share = torch.empty_like(sureness)
    share[sureness.argsort(stable=True)] = draws
    log_probs = F.log_softmax(student_logits.float(), dim=-1)
    of_gold = log_probs.gather(-1, gold).squeeze(-1)
    of_others = (log_probs.sum(-1) - of_gold) / (log_probs.shape[-1] - 1)
    return -(share * of_gold + (1 - share) * of_others).mean()


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """T^2 * (alpha * TCKD + beta * NCKD): decoupled distillation.

    TCKD: KL(teacher || student) of the two probabilities (gold class, all others together); NCKD: KL of the softmax
    over the classes other than the gold one. Logits: (batch, classes); labels: (batch,) class numbers.
    Two classes have a single other class, so NCKD is 0 and the loss is alpha times `soft_label_loss`.
    Source: Zhao et al. 2022, Decoupled Knowledge Distillation (arXiv 2203.08679), equation 7 and the T^2 of its code.
    Raises UserError when shapes or labels do not match, for regression, or when the temperature is not positive.
    """
    require_same_shape("student and teacher logits", student_logits, teacher_logits, dimensions=2)
    require_class_labels("dkd", student_logits, labels)
    require_temperature(temperature)
    gold = F.one_hot(labels.long(), student_logits.shape[-1]).bool()
    student_pair, student_others = _gold_and_others(student_logits.float() / temperature, gold)
    teacher_pair, teacher_others = _gold_and_others(teacher_logits.detach().float() / temperature, gold)
    gold_part = kl_terms(student_pair, teacher_pair, teacher_pair.exp()).sum(-1).mean()
    others_part = kl_terms(student_others, teacher_others, teacher_others.exp()).sum(-1).mean()
    return temperature**2 * (
        alpha * without_negative_rounding(gold_part) + beta * without_negative_rounding(others_part)
    )


def _gold_and_others(logits: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (gold class, the others together), (batch, 2), and among the others, (batch, classes - 1).

    By log-sum-exp: the logarithm of one minus a probability would be -inf for a confident model.
    """
    others = logits[~gold].view(len(logits), -1)
    pair = torch.stack([logits[gold], others.logsumexp(-1)], dim=-1)
    return F.log_softmax(pair, dim=-1), F.log_softmax(others, dim=-1)


def dist(student_logits: Tensor, teacher_logits: Tensor, temperature: float, beta: float, gamma: float) -> Tensor:
    """beta * inter + gamma * intra: one minus Pearson's correlation of the probabilities softmax(z / T).

    Inter: correlation over the classes of an example, averaged over examples. Intra: correlation over the examples of a
    class, averaged over classes; it depends on which examples share a batch. Correlations do not shrink as T grows, so
    there is no T^2. Logits: (batch, classes).
    Constant probabilities correlate with nothing, 0, and with constant ones perfectly: with one example intra is 0.
    With two classes every correlation over classes is 1 or -1: inter has no gradient, and intra is that of one class.
    Source: Huang et al. 2022, Knowledge Distillation from A Stronger Teacher (arXiv 2205.10536), equations 8 to 10.
    Raises UserError when the shapes differ, for regression, or when the temperature is not positive.
    """
    require_same_shape("student and teacher logits", student_logits, teacher_logits, dimensions=2)
    require_classes("dist", student_logits)
    require_temperature(temperature)
    student, teacher = student_logits.float() / temperature, teacher_logits.detach().float() / temperature
    inter = cosine_distance(_centred(student.softmax(-1)), _centred(teacher.softmax(-1))).mean()
    intra = cosine_distance(_centred(_by_class(student)), _centred(_by_class(teacher))).mean()
    return beta * inter + gamma * intra


def _by_class(logits: Tensor) -> Tensor:
    """Each class's probabilities over the examples, (classes, batch), as shares of its largest.

    A correlation ignores the scale, and the square of a small probability would underflow.
    """
    log_probs = F.log_softmax(logits, dim=-1).T
    return (log_probs - log_probs.detach().amax(-1, keepdim=True).clamp(min=VERY_LOW)).exp()


def _centred(rows: Tensor) -> Tensor:
    """Rows minus their means; exactly 0 where rounding is all that is left."""
    centred = rows - rows.mean(-1, keepdim=True)
    spread = torch.linalg.vector_norm(centred.detach(), dim=-1, keepdim=True)
    size = torch.linalg.vector_norm(rows.detach(), dim=-1, keepdim=True)
    return centred.masked_fill(spread <= CONSTANT * size, 0.0)
