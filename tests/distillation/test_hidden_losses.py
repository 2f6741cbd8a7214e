"""Losses on hidden states against their definitions."""

import pytest
import torch
from loss_cases import mask_of

from internal_kd.distillation.losses import cls_cosine, hidden_cosine, hidden_mse, patient_cls, token_energy
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


def test_patient_cls_is_the_mean_squared_error_of_unit_vectors() -> None:
    student = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    teacher = torch.randn(8, 32, generator=torch.Generator().manual_seed(2))
    unit = torch.nn.functional.normalize
    expected = torch.nn.functional.mse_loss(unit(student.double(), dim=-1), unit(teacher.double(), dim=-1))
    assert patient_cls(student, teacher).item() == pytest.approx(expected.item(), rel=1e-5)
    assert patient_cls(student, teacher).item() == pytest.approx(2 / 32 * cls_cosine(student, teacher).item(), rel=1e-6)


# All tokens


def test_hidden_losses_average_over_real_tokens_then_over_examples() -> None:
    lengths = [4, 1, 3]
    student = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    teacher = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2))
    pairs = [(student[b, :n].double(), teacher[b, :n].double()) for b, n in enumerate(lengths)]
    squared = torch.stack([(ours - theirs).square().mean() for ours, theirs in pairs]).mean()
    cosine = torch.stack([1 - torch.nn.functional.cosine_similarity(*pair, dim=-1).mean() for pair in pairs]).mean()
    assert hidden_mse(student, teacher, mask_of(lengths, 4)).item() == pytest.approx(squared.item(), rel=1e-5)
    assert hidden_cosine(student, teacher, mask_of(lengths, 4)).item() == pytest.approx(cosine.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: cls_cosine(torch.zeros(2, 8), torch.zeros(2, 16)), "(2, 16)"),
        (lambda: patient_cls(torch.zeros(2, 8), torch.zeros(2, 16)), "(2, 16)"),
        (lambda: hidden_mse(torch.zeros(2, 3, 8), torch.zeros(2, 3, 6), torch.ones(2, 3)), "(2, 3, 6)"),
        (lambda: hidden_cosine(torch.zeros(2, 3, 8), torch.zeros(2, 3, 8), torch.ones(2, 4)), "(2, 4)"),
    ],
)
def test_what_does_not_fit_is_named(call, named: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert named in str(error.value) and "\n" not in str(error.value)


def test_token_energy_compares_how_large_each_state_is_among_its_text() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, width, generator=generator) for width in (8, 6))
    lengths = (4, 2)
    expected = 0.0
    for row, length in enumerate(lengths):
        ours, theirs = (hidden[row, :length].square().sum(-1) for hidden in (student, teacher))
        expected += (ours / ours.norm() - theirs / theirs.norm()).square().mean().item() / len(lengths)
    mask = mask_of(list(lengths), 4)
    assert token_energy(student, teacher, mask).item() == pytest.approx(expected, rel=1e-5)
    assert token_energy(3 * teacher, teacher, mask).item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(UserError, match="tokens"):
        token_energy(student, teacher[:, :3], mask)
