"""Losses on logits against formulas written from their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from internal_kd.distillation.losses import (
    beta_smoothing,
    confidence_penalty,
    dist,
    dkd,
    hard_label_loss,
    label_smoothing,
    soft_label_loss,
)
from internal_kd.errors import UserError

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def logits(seed: int, batch: int, classes: int) -> Tensor:
    return 2 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed))


# Soft and hard labels


def test_soft_label_loss_is_temperature_squared_times_the_divergence() -> None:
    student, teacher = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 1.0]]), torch.tensor([[0.3, 1.0, -1.0], [2.0, 0, 0]])
    for temperature in (0.5, 1.0, 4.0):
        p = (teacher.double() / temperature).softmax(-1)
        q = (student.double() / temperature).softmax(-1)
        expected = temperature**2 * (p * (p / q).log()).sum(-1).mean()
        assert soft_label_loss(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-5)


def test_temperature_squared_keeps_the_scale_of_the_soft_gradient() -> None:
    student = torch.randn(64, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    teacher = torch.randn(64, 3, generator=torch.Generator().manual_seed(2))
    norms = [
        torch.autograd.grad(soft_label_loss(student, teacher, t), student)[0].norm().item() for t in (1.0, 10.0, 100.0)
    ]
    assert 0.3 < norms[1] / norms[0] < 3
    # For high temperatures the gradient tends to that of matching centred logits: it no longer depends on T.
    assert norms[2] == pytest.approx(norms[1], rel=0.1)


def test_soft_gradient_at_temperature_one_is_that_of_the_papers_cross_entropy() -> None:
    student = torch.randn(5, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    teacher = torch.randn(5, 2, generator=torch.Generator().manual_seed(2))
    (ours,) = torch.autograd.grad(soft_label_loss(student, teacher, 1.0), student)
    paper = torch.nn.functional.cross_entropy(student, teacher.softmax(-1))
    assert torch.allclose(ours, torch.autograd.grad(paper, student)[0], atol=1e-7)


@given(scale=st.sampled_from([1e-3, 1.0, 30.0, 1e4]), seed=st.integers(0, 1000))
def test_soft_label_loss_is_never_negative_nor_nan(scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = (torch.randn(4, 3, generator=generator) * scale).requires_grad_()
    teacher = student.detach() + 1e-6 * torch.randn(4, 3, generator=generator)
    for target in (teacher, torch.randn(4, 3, generator=generator) * scale):
        loss = soft_label_loss(student, target, 2.0)
        (gradient,) = torch.autograd.grad(loss, student)
        assert 0.0 <= loss.item() < math.inf and gradient.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_identical_logits_cost_exactly_zero(dtype: torch.dtype) -> None:
    logits = torch.randn(6, 3).to(dtype)
    loss = soft_label_loss(logits, logits.clone(), 3.0)
    assert loss.item() == 0.0 and loss.dtype == torch.float32


def test_regression_is_squared_error_for_soft_and_hard_labels() -> None:
    student, teacher = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    assert soft_label_loss(student, teacher, 7.0).item() == pytest.approx((1 + 4) / 2)
    for labels in (torch.tensor([0.0, 1.0]), torch.tensor([0, 1]), torch.tensor([[0.0], [1.0]])):
        assert hard_label_loss(student, labels).item() == pytest.approx((1 + 4) / 2)


def test_hard_label_loss_is_cross_entropy_in_fp32() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0], dtype=torch.int32)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    loss = hard_label_loss(logits.bfloat16(), labels)
    assert loss.item() == pytest.approx(expected, rel=1e-6) and loss.dtype == torch.float32


# Smoothed labels, confidence


def test_beta_smoothing_gives_the_surest_example_the_largest_share_of_its_label() -> None:
    labels, classes = torch.tensor([0, 1, 2, 0]), 4
    teacher = torch.zeros(4, classes)
    teacher[range(4), labels] = torch.tensor([1.0, 3.0, 0.0, 2.0])
    student = torch.randn(4, classes, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    value = beta_smoothing(student, teacher, labels, 3.0)
    torch.manual_seed(5)
    draws = (torch.rand(4) ** (1 / 3)).sort().values[[1, 3, 0, 2]]
    target = ((1 - draws) / 3)[:, None].expand(4, classes).clone()
    target[range(4), labels] = draws
    assert value.item() == pytest.approx(-(target * student.log_softmax(-1)).sum(-1).mean().item(), rel=1e-5)
    many = torch.rand(100_000) ** (1 / 3)
    assert many.mean().item() == pytest.approx(0.75, abs=5e-3)  # of Beta(3, 1)


def test_label_smoothing_spreads_a_share_of_the_label_over_all_classes() -> None:
    student, labels = logits(1, 4, 3), torch.tensor([0, 2, 1, 1])
    targets = 0.9 * torch.nn.functional.one_hot(labels, 3) + 0.1 / 3
    expected = -(targets * student.double().log_softmax(-1)).sum(-1).mean()
    assert label_smoothing(student, labels, 0.1).item() == pytest.approx(expected.item(), rel=1e-6)
    assert label_smoothing(student, labels, 0.0).item() == pytest.approx(hard_label_loss(student, labels).item())


def test_confidence_penalty_has_the_gradient_of_minus_the_entropy() -> None:
    student = logits(1, 5, 4).requires_grad_()
    loss = confidence_penalty(student, 0.3)
    negative_entropy = 0.3 * (student.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()
    assert loss.item() == pytest.approx(negative_entropy.item() + 0.3 * math.log(4), rel=1e-5)
    (ours,), (theirs,) = (torch.autograd.grad(value, student) for value in (loss, negative_entropy))
    assert torch.allclose(ours, theirs, atol=1e-7)
    assert confidence_penalty(torch.full((2, 3), 7.0), 0.3).item() == 0.0


# Decoupled


def dkd_by_definition(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[float, float]:
    parts = np.zeros(2)
    for z_s, z_t, gold in zip(student.double().numpy(), teacher.double().numpy(), labels.tolist(), strict=True):
        q, p = (np.exp(z / temperature) / np.exp(z / temperature).sum() for z in (z_s, z_t))
        pairs = [np.array([x[gold], 1 - x[gold]]) for x in (p, q)]
        others = [np.delete(x, gold) / (1 - x[gold]) for x in (p, q)]
        parts += [float((a * np.log(a / b)).sum()) * temperature**2 / len(labels) for a, b in (pairs, others)]
    return float(parts[0]), float(parts[1])


def test_dkd_is_the_two_parts_of_its_definition() -> None:
    student, teacher, labels = logits(1, 6, 4), logits(2, 6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    gold_part, others_part = dkd_by_definition(student, teacher, labels, 4.0)
    assert dkd(student, teacher, labels, 4.0, 1.0, 0.0).item() == pytest.approx(gold_part, rel=1e-4)
    assert dkd(student, teacher, labels, 4.0, 0.0, 1.0).item() == pytest.approx(others_part, rel=1e-4)
    assert dkd(student, teacher, labels, 4.0, 2.0, 8.0).item() == pytest.approx(
        2 * gold_part + 8 * others_part, rel=1e-4
    )


def test_dkd_with_the_teachers_doubt_as_beta_is_soft_labels() -> None:
    student, teacher, labels = logits(1, 1, 5), logits(2, 1, 5), torch.tensor([3])
    doubt = 1 - (teacher / 2).softmax(-1)[0, 3].item()
    expected = soft_label_loss(student, teacher, 2.0).item()
    assert dkd(student, teacher, labels, 2.0, 1.0, doubt).item() == pytest.approx(expected, rel=1e-5)


def test_with_two_classes_dkd_is_alpha_times_soft_labels() -> None:
    student, teacher, labels = logits(1, 6, 2).requires_grad_(), logits(2, 6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    loss, expected = dkd(student, teacher, labels, 4.0, 1.5, 8.0), 1.5 * soft_label_loss(student, teacher, 4.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (ours,), (theirs,) = (torch.autograd.grad(value, student) for value in (loss, expected))
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_dkd_of_confident_models_is_finite() -> None:
    student = torch.tensor([[300.0, 0.0, -300.0], [-300.0, 0.0, 300.0]], requires_grad=True)
    teacher = torch.tensor([[-300.0, 0.0, 300.0], [-300.0, 0.0, 300.0]])
    loss = dkd(student, teacher, torch.tensor([0, 2]), 1.0, 1.0, 8.0)
    assert loss.isfinite() and torch.autograd.grad(loss, student)[0].isfinite().all()


# Correlations


def dist_by_definition(student: Tensor, teacher: Tensor, temperature: float) -> tuple[float, float]:
    q, p = ((z.double() / temperature).softmax(-1).numpy() for z in (student, teacher))
    inter = [np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    intra = [np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)]
    return 1 - float(np.mean(inter)), 1 - float(np.mean(intra))


def test_dist_is_one_minus_the_correlations() -> None:
    student, teacher = logits(1, 7, 4), logits(2, 7, 4)
    inter, intra = dist_by_definition(student, teacher, 3.0)
    assert dist(student, teacher, 3.0, 1.0, 0.0).item() == pytest.approx(inter, rel=1e-4)
    assert dist(student, teacher, 3.0, 0.0, 1.0).item() == pytest.approx(intra, rel=1e-4)
    assert dist(student, teacher, 3.0, 2.0, 0.5).item() == pytest.approx(2 * inter + 0.5 * intra, rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 10.0, 30.0])
def test_dist_of_confident_models_keeps_the_classes_that_nothing_is_given_to(scale: float) -> None:
    student, teacher = (scale * logits(1, 16, 40)).requires_grad_(), scale * logits(2, 16, 40)
    exact = student.detach().double().requires_grad_()
    columns = [z.softmax(-1).T - z.softmax(-1).mean(0)[:, None] for z in (exact, teacher.double())]
    expected = 1 - torch.nn.functional.cosine_similarity(*columns, eps=0).mean()
    loss = dist(student, teacher, 1.0, 0.0, 1.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    (ours,), (theirs,) = (torch.autograd.grad(loss, student), torch.autograd.grad(expected, exact))
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_dist_of_a_class_that_is_ruled_out_is_finite() -> None:
    student = logits(1, 5, 4).requires_grad_()
    teacher = logits(2, 5, 4)
    teacher[:, 1] = -math.inf
    loss = dist(student, teacher, 1.0, 1.0, 1.0)
    assert loss.isfinite() and torch.autograd.grad(loss, student)[0].isfinite().all()


def test_with_two_classes_the_correlation_over_classes_teaches_nothing() -> None:
    student = logits(1, 6, 2).requires_grad_()
    assert torch.autograd.grad(dist(student, logits(2, 6, 2), 1.0, 1.0, 0.0), student)[0].abs().max() < 1e-5
    assert torch.autograd.grad(dist(student, logits(2, 6, 2), 1.0, 0.0, 1.0), student)[0].abs().max() > 1e-3


def test_with_one_example_there_is_no_correlation_over_examples() -> None:
    student = logits(1, 1, 4).requires_grad_()
    loss = dist(student, logits(2, 1, 4), 1.0, 0.0, 2.0)
    assert loss.item() == 0.0 and torch.autograd.grad(loss, student)[0].abs().sum() == 0


@pytest.mark.parametrize("batch", [3, 5, 7, 11, 13])
def test_constant_probabilities_correlate_with_nothing(batch: int) -> None:
    # The same answer to every example, as of a model that has collapsed; its columns are constant but for rounding.
    student = torch.tensor([[0.3, 1.1, -0.7]]).repeat(batch, 1).requires_grad_()
    loss = dist(student, logits(2, batch, 3), 1.0, 0.0, 1.0)
    assert loss.item() == pytest.approx(1.0) and torch.autograd.grad(loss, student)[0].abs().sum() == 0


# Errors


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: soft_label_loss(torch.zeros(2, 2), torch.zeros(2, 3), 1.0), "(2, 3)"),
        (lambda: soft_label_loss(torch.zeros(2, 2), torch.zeros(2, 2), 0.0), "temperature is 0.0"),
        (lambda: hard_label_loss(torch.zeros(2, 2), torch.zeros(3, dtype=torch.long)), "(3,)"),
        (lambda: hard_label_loss(torch.zeros(2, 1), torch.zeros(3)), "(3, 1)"),
        (lambda: hard_label_loss(torch.zeros(2), torch.zeros(2)), "(2,)"),
        (lambda: hard_label_loss(torch.zeros(2), torch.zeros(2).long()), "(batch, classes)"),
        (lambda: label_smoothing(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 1.0), "smoothing is 1.0"),
        (lambda: label_smoothing(torch.zeros(2, 1), torch.zeros(2), 0.1), "(2, 1)"),
        (lambda: label_smoothing(torch.zeros(2, 3), torch.zeros(2), 0.1), "torch.float32"),
        (lambda: confidence_penalty(torch.zeros(2, 1), 0.1), "(2, 1)"),
        (lambda: dkd(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2), 1.0, 1.0, 1.0), "(2, 1)"),
        (lambda: dkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3).long(), 1.0, 1.0, 1.0), "(3,)"),
        (lambda: dkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2).long(), -1.0, 1.0, 1.0), "temperature is -1"),
        (lambda: dist(torch.zeros(2, 1), torch.zeros(2, 1), 1.0, 1.0, 1.0), "(2, 1)"),
        (lambda: dist(torch.zeros(2, 3), torch.zeros(2, 4), 1.0, 1.0, 1.0), "(2, 4)"),
    ],
)
def test_what_does_not_fit_is_named(call, named: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert named in str(error.value) and "\n" not in str(error.value)
