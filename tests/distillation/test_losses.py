"""What the losses promise, against formulas written from the method's definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from internal_kd.distillation.losses import attention_kl, cls_cosine, hard_label_loss, soft_label_loss
from internal_kd.errors import UserError

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


# [CLS]


@pytest.mark.parametrize("dtype", DTYPES)
def test_identical_cls_vectors_cost_exactly_zero(dtype: torch.dtype) -> None:
    vectors = (torch.randn(16, 768, generator=torch.Generator().manual_seed(0)) * 5).to(dtype)
    loss = cls_cosine(vectors, vectors.clone())
    assert loss.item() == 0.0 and loss.dtype == torch.float32


def test_cls_cosine_is_one_minus_the_cosine() -> None:
    student = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    teacher = torch.randn(8, 32, generator=torch.Generator().manual_seed(2))
    expected = (1 - torch.nn.functional.cosine_similarity(student.double(), teacher.double())).mean()
    assert cls_cosine(student, teacher).item() == pytest.approx(expected.item(), abs=1e-6)
    assert cls_cosine(3 * student, student).item() == pytest.approx(0.0, abs=1e-6)
    assert cls_cosine(student, -student).item() == pytest.approx(2.0, abs=1e-6)


def test_cls_cosine_gradient_is_that_of_the_cosine() -> None:
    student = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    teacher = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    (ours,) = torch.autograd.grad(cls_cosine(student, teacher), student)
    plain = (1 - torch.nn.functional.cosine_similarity(student, teacher)).mean()
    assert torch.allclose(ours, torch.autograd.grad(plain, student)[0], atol=1e-6)


def test_zero_vectors_give_numbers_and_bounded_gradients() -> None:
    student = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    loss = cls_cosine(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 1 + 0) / 3)
    assert student.grad is not None and student.grad.abs().max() <= 1.0


# Logits


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


# All


def test_the_teacher_receives_no_gradient_from_any_loss() -> None:
    student_logits, teacher_logits = torch.randn(2, 2, requires_grad=True), torch.randn(2, 2, requires_grad=True)
    student_maps = torch.randn(2, 1, 3, 3).log_softmax(-1).requires_grad_()
    teacher_maps = torch.randn(2, 1, 3, 3).log_softmax(-1).requires_grad_()
    total = (
        soft_label_loss(student_logits, teacher_logits, 2.0)
        + cls_cosine(student_logits, teacher_logits)
        + attention_kl(student_maps, teacher_maps, torch.ones(2, 3))
    )
    total.backward()
    assert teacher_logits.grad is None and teacher_maps.grad is None
    assert student_logits.grad is not None and student_maps.grad is not None


def test_a_teacher_run_in_inference_mode_can_teach() -> None:
    with torch.inference_mode():
        logits, maps = torch.randn(2, 3), torch.randn(2, 1, 3, 3).log_softmax(-1)
    student, student_maps = torch.randn(2, 3, requires_grad=True), torch.randn(2, 1, 3, 3, requires_grad=True)
    total = (
        soft_label_loss(student, logits, 2.0)
        + soft_label_loss(student[:, :1], logits[:, :1], 2.0)
        + cls_cosine(student, logits)
        + attention_kl(student_maps.log_softmax(-1), maps, torch.tensor([[1, 1, 1], [1, 1, 0]]))
    )
    total.backward()
    assert student.grad is not None and student_maps.grad is not None


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: attention_kl(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 3), torch.ones(1, 3)), "(1, 4, 3, 3)"),
        (lambda: attention_kl(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 5)), "(1, 5)"),
        (lambda: attention_kl(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), torch.ones(1, 3)), "4 axes"),
        (lambda: cls_cosine(torch.zeros(2, 8), torch.zeros(2, 16)), "(2, 16)"),
        (lambda: soft_label_loss(torch.zeros(2, 2), torch.zeros(2, 3), 1.0), "(2, 3)"),
        (lambda: soft_label_loss(torch.zeros(2, 2), torch.zeros(2, 2), 0.0), "temperature is 0.0"),
        (lambda: hard_label_loss(torch.zeros(2, 2), torch.zeros(3, dtype=torch.long)), "(3,)"),
        (lambda: hard_label_loss(torch.zeros(2, 1), torch.zeros(3)), "(3, 1)"),
        (lambda: hard_label_loss(torch.zeros(2), torch.zeros(2)), "(batch, classes)"),
    ],
)
def test_shapes_that_do_not_match_are_named(call, named: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert named in str(error.value) and "\n" not in str(error.value)
