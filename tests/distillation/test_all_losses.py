"""What every loss promises: nothing for equal sides, nothing from padding or batch-mates, never NaN."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import EXAMPLE_LOSSES, JUNK, TOKEN_LOSSES, TokenLoss, labels_for, mask_of
from torch import Tensor

from internal_kd.distillation import arithmetic, losses

token_losses = pytest.mark.parametrize("name", TOKEN_LOSSES)
example_losses = pytest.mark.parametrize("name", EXAMPLE_LOSSES)


def value_and_gradient(case: TokenLoss, student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[float, Tensor]:
    student = student.clone().requires_grad_()
    loss = case.loss(student, teacher, mask)
    assert loss.dtype == torch.float32 and loss.shape == ()
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.item(), gradient


def test_every_loss_is_tried_here() -> None:
    tried = {
        "soft_label_loss",
        "hard_label_loss",
        "attention_kl_by_head",
        "mutual_shuffled",
        "word_relation",
        "layer_relation",
        "rkd",
    }
    assert set(losses.__all__) <= {*tried, *TOKEN_LOSSES, *EXAMPLE_LOSSES}


# Tokens


@token_losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equal_sides_cost_exactly_zero(name: str, dtype: torch.dtype) -> None:
    case = TOKEN_LOSSES[name]
    student = case.pair(0, 3, 7)[0].to(dtype)
    value, gradient = value_and_gradient(case, student, student.clone(), mask_of([7, 4, 1], 7))
    assert value == 0.0
    # The smallest step of the type, not 0: the gradient of a softmax in one order and another.
    assert gradient.abs().max() < 1e-6


@token_losses
@pytest.mark.parametrize("junk", JUNK)
def test_what_padding_holds_does_not_matter(name: str, junk: float) -> None:
    case = TOKEN_LOSSES[name]
    student, teacher = case.pair(1, 3, 8)
    mask = mask_of([8, 3, 5], 8)
    padding = case.padding(mask)
    expected, expected_gradient = value_and_gradient(case, student, teacher, mask)
    value, gradient = value_and_gradient(
        case, student.masked_fill(padding, junk), teacher.masked_fill(padding, -junk), mask
    )
    assert value == pytest.approx(expected, rel=1e-6) and value > 0
    assert torch.allclose(gradient, expected_gradient, atol=1e-7)
    assert gradient.masked_select(padding.expand_as(gradient)).abs().sum() == 0


@token_losses
def test_a_batch_costs_the_mean_of_its_examples_without_padding(name: str) -> None:
    case, lengths = TOKEN_LOSSES[name], [7, 4, 1, 2]
    student, teacher = case.pair(2, 4, 9)
    value, gradient = value_and_gradient(case, student, teacher, mask_of(lengths, 9))
    singles = [
        value_and_gradient(case, case.cropped(student, b, n), case.cropped(teacher, b, n), torch.ones(1, n))
        for b, n in enumerate(lengths)
    ]
    assert value == pytest.approx(math.fsum(single for single, _ in singles) / 4, rel=1e-5)
    for example, (_, expected) in enumerate(singles):
        assert torch.allclose(case.cropped(gradient, example, lengths[example]), expected / 4, atol=1e-6)


@token_losses
def test_the_order_of_the_examples_does_not_matter(name: str) -> None:
    case, order = TOKEN_LOSSES[name], torch.tensor([2, 0, 3, 1])
    student, teacher = case.pair(3, 4, 6)
    mask = mask_of([6, 2, 4, 5], 6)
    value, gradient = value_and_gradient(case, student, teacher, mask)
    permuted, permuted_gradient = value_and_gradient(case, student[order], teacher[order], mask[order])
    assert permuted == pytest.approx(value, rel=1e-6)
    assert torch.allclose(permuted_gradient, gradient[order], atol=1e-7)


@token_losses
def test_an_example_of_nothing_but_padding_is_not_an_example(name: str) -> None:
    case = TOKEN_LOSSES[name]
    student, teacher = case.pair(4, 3, 5)
    expected, _ = value_and_gradient(case, student[:2], teacher[:2], mask_of([5, 3], 5))
    student[2] = teacher[2] = math.nan
    value, gradient = value_and_gradient(case, student, teacher, mask_of([5, 3, 0], 5))
    assert value == pytest.approx(expected, rel=1e-6)
    assert gradient.isfinite().all() and gradient[2].abs().sum() == 0
    assert value_and_gradient(case, student[2:], teacher[2:], mask_of([0], 5))[0] == 0.0


@token_losses
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 30.0]),
    apart=st.sampled_from([0.0, 1e-6, 1.0]),
)
def test_loss_and_gradient_are_finite_and_never_negative(
    name: str, lengths: list[int], seed: int, scale: float, apart: float
) -> None:
    case = TOKEN_LOSSES[name]
    student, teacher = (scale * side for side in case.pair(seed, len(lengths), max(lengths)))
    if apart < 1 and student.shape == teacher.shape:
        student = teacher + apart * student
    for ours, theirs in (
        (student, teacher),
        (torch.zeros_like(student), teacher),
        (student, torch.zeros_like(teacher)),
    ):
        value, gradient = value_and_gradient(case, ours, theirs, mask_of(lengths, max(lengths)))
        assert 0.0 <= value < math.inf and gradient.isfinite().all()


@token_losses
@pytest.mark.parametrize("same", [1, 3])
def test_tokens_that_are_equal_have_finite_gradients(name: str, same: int) -> None:
    # Differences of equal vectors have no direction, and square roots no slope.
    case = TOKEN_LOSSES[name]
    student, teacher = case.pair(5, 1, 4)
    axis = case.token_axes[0]
    repeated = torch.cat([student.narrow(axis, 0, 1)] * same + [student.narrow(axis, same, 4 - same)], axis)
    for ours, theirs in ((repeated, teacher), (student.narrow(axis, 0, 1).expand_as(student), teacher)):
        value, gradient = value_and_gradient(case, ours, theirs, torch.ones(1, 4))
        assert 0.0 <= value < math.inf and gradient.abs().max() < 1e3


@token_losses
def test_a_batch_in_parts_for_the_cache_costs_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = TOKEN_LOSSES[name]
    student, teacher = case.pair(6, 3, 6)
    mask = mask_of([6, 1, 4], 6)
    value, gradient = value_and_gradient(case, student, teacher, mask)
    monkeypatch.setattr(arithmetic, "CACHED", 1)
    in_parts, gradient_in_parts = value_and_gradient(case, student, teacher, mask)
    assert in_parts == pytest.approx(value, rel=1e-6) and torch.allclose(gradient, gradient_in_parts, atol=1e-7)


@token_losses
def test_autocast_changes_nothing(name: str) -> None:
    case = TOKEN_LOSSES[name]
    student, teacher = case.pair(7, 2, 6)
    value, gradient = value_and_gradient(case, student, teacher, mask_of([6, 4], 6))
    with torch.autocast("cpu", torch.bfloat16):
        cast, cast_gradient = value_and_gradient(case, student, teacher, mask_of([6, 4], 6))
    assert cast == value and cast_gradient.equal(gradient)


@token_losses
def test_only_the_student_gets_a_gradient(name: str) -> None:
    case = TOKEN_LOSSES[name]
    student, teacher = (side.requires_grad_() for side in case.pair(8, 2, 5))
    case.loss(student, teacher, mask_of([5, 3], 5)).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


@token_losses
def test_a_teacher_run_in_inference_mode_can_teach_tokens(name: str) -> None:
    case = TOKEN_LOSSES[name]
    student, teacher = case.pair(9, 2, 5)
    with torch.inference_mode():
        theirs = teacher.clone()
    value_and_gradient(case, student, theirs, mask_of([5, 3], 5))


# Examples


def example_value(name: str, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    student = student.clone().requires_grad_()
    loss = EXAMPLE_LOSSES[name].loss(student, teacher, labels)
    assert loss.dtype == torch.float32 and loss.shape == ()
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.item(), gradient


@example_losses
def test_equal_examples_cost_exactly_zero(name: str) -> None:
    case = EXAMPLE_LOSSES[name]
    student = case.pair(0, 6)[0]
    for batch in (6, 2, 1):
        value, gradient = example_value(name, student[:batch], student[:batch].clone(), labels_for(batch))
        assert gradient.isfinite().all()
        assert value == 0.0 or not case.zero_for_equal


@example_losses
def test_a_batch_of_examples_costs_their_mean_unless_it_compares_them(name: str) -> None:
    case = EXAMPLE_LOSSES[name]
    student, teacher = case.pair(1, 4)
    labels = labels_for(4)
    value, _ = example_value(name, student, teacher, labels)
    singles = [example_value(name, student[b : b + 1], teacher[b : b + 1], labels[b : b + 1])[0] for b in range(4)]
    assert (value == pytest.approx(math.fsum(singles) / 4, rel=1e-5)) is not case.across_batch
    order = torch.tensor([2, 0, 3, 1])
    assert example_value(name, student[order], teacher[order], labels[order])[0] == pytest.approx(value, rel=1e-5)


@example_losses
@given(
    batch=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 100.0, 1e4]),
)
def test_losses_of_examples_are_finite_and_never_negative(name: str, batch: int, seed: int, scale: float) -> None:
    student, teacher = EXAMPLE_LOSSES[name].pair(seed, batch)
    for ours, theirs in ((scale * student, scale * teacher), (student, scale * teacher), (scale * student, teacher)):
        value, gradient = example_value(name, ours, theirs, labels_for(batch))
        assert 0.0 <= value < math.inf and gradient.isfinite().all()


@example_losses
def test_only_the_student_gets_a_gradient_from_examples(name: str) -> None:
    student, teacher = (side.requires_grad_() for side in EXAMPLE_LOSSES[name].pair(2, 4))
    EXAMPLE_LOSSES[name].loss(student, teacher, labels_for(4)).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


@example_losses
def test_a_teacher_run_in_inference_mode_can_teach_examples(name: str) -> None:
    student, teacher = EXAMPLE_LOSSES[name].pair(3, 4)
    with torch.inference_mode():
        theirs = teacher.clone()
    example_value(name, student, theirs, labels_for(4))
