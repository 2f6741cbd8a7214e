"""The attention loss against plain loops written from the method's definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from internal_kd.distillation.losses import attention_kl


def random_log_probs(lengths: list[int], length: int, heads: int = 3, seed: int = 0, fill: float = -math.inf) -> Tensor:
    """Normalised over the real keys of each example; ``fill`` on padding keys."""
    scores = torch.randn(len(lengths), heads, length, length, generator=torch.Generator().manual_seed(seed)) * 2
    log_probs = torch.full_like(scores, fill)
    for example, real in enumerate(lengths):
        log_probs[example, :, :, :real] = scores[example, :, :, :real].log_softmax(-1)
    return log_probs


def mask_of(lengths: list[int], length: int) -> Tensor:
    return (torch.arange(length) < torch.tensor(lengths)[:, None]).long()


def attention_kl_by_loops(student: Tensor, teacher: Tensor, lengths: list[int]) -> float:
    examples = []
    for example, real in enumerate(lengths):
        rows = []
        for head in range(student.shape[1]):
            for query in range(real):
                terms = []
                for key in range(real):
                    log_t, log_s = teacher[example, head, query, key].item(), student[example, head, query, key].item()
                    terms.append(0.0 if log_t == -math.inf else math.exp(log_t) * (log_t - log_s))
                rows.append(math.fsum(terms))
        examples.append(math.fsum(rows) / len(rows))
    return math.fsum(examples) / len(examples)


@pytest.mark.parametrize("fill", [-math.inf, torch.finfo(torch.float32).min, -1e4, math.nan, 3.0])
def test_attention_kl_is_the_defined_mean_whatever_stands_on_padding(fill: float) -> None:
    lengths = [7, 3, 1, 5]
    student, teacher = random_log_probs(lengths, 7, seed=1, fill=fill), random_log_probs(lengths, 7, seed=2)
    expected = attention_kl_by_loops(student, teacher, lengths)
    assert attention_kl(student, teacher, mask_of(lengths, 7)).item() == pytest.approx(expected, abs=1e-6)
    mirrored = attention_kl_by_loops(teacher, student, lengths)
    assert attention_kl(teacher, student, mask_of(lengths, 7)).item() == pytest.approx(mirrored, abs=1e-6)


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.float32])
def test_attention_kl_accepts_masks_of_any_dtype(mask_dtype: torch.dtype) -> None:
    lengths = [4, 2]
    student, teacher = random_log_probs(lengths, 4, seed=1), random_log_probs(lengths, 4, seed=2)
    expected = attention_kl(student, teacher, mask_of(lengths, 4))
    assert attention_kl(student, teacher, mask_of(lengths, 4).to(mask_dtype)).equal(expected)


def test_more_padding_changes_neither_attention_kl_nor_its_gradient() -> None:
    lengths, gradients, losses = [5, 2], [], []
    for length in (5, 64):
        student = torch.full((2, 3, length, length), torch.finfo(torch.float32).min)
        teacher = torch.full((2, 3, length, length), -math.inf)
        student[..., :5, :5] = random_log_probs(lengths, 5, seed=1)
        teacher[..., :5, :5] = random_log_probs(lengths, 5, seed=2)
        student.requires_grad_()
        loss = attention_kl(student, teacher, mask_of(lengths, length))
        loss.backward()
        losses.append(loss.item())
        assert student.grad is not None
        gradients.append(student.grad[..., :5, :5])
        assert student.grad[..., 5:].abs().sum() == 0 and student.grad[..., 5:, :].abs().sum() == 0
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert torch.allclose(gradients[0], gradients[1])


def test_left_padding_counts_as_little_as_right_padding() -> None:
    student, teacher = random_log_probs([4], 4, seed=1), random_log_probs([4], 4, seed=2)
    shifted = [torch.nn.functional.pad(x, (3, 0, 3, 0), value=-math.inf) for x in (student, teacher)]
    loss = attention_kl(*shifted, torch.tensor([[0, 0, 0, 1, 1, 1, 1]]))
    assert loss.item() == pytest.approx(attention_kl(student, teacher, torch.ones(1, 4)).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_identical_attention_costs_exactly_zero(dtype: torch.dtype) -> None:
    lengths = [9, 4]
    log_probs = random_log_probs(lengths, 9).to(dtype)
    loss = attention_kl(log_probs, log_probs.clone(), mask_of(lengths, 9))
    assert loss.item() == 0.0 and loss.dtype == torch.float32


def test_teacher_probability_zero_at_a_real_key_contributes_nothing() -> None:
    teacher = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).log()[None, None]
    student = torch.tensor([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]).log()[None, None].requires_grad_()
    loss = attention_kl(student, teacher, torch.ones(1, 3))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert student.grad is not None
    assert torch.allclose(student.grad[0, 0] * 3, -teacher[0, 0].exp())


def test_student_probability_zero_where_the_teacher_looks_is_infinite_not_nan() -> None:
    teacher = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()[None, None]
    student = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).log()[None, None].requires_grad_()
    loss = attention_kl(student, teacher, torch.ones(1, 2))
    loss.backward()
    assert loss.item() == math.inf
    assert student.grad is not None and student.grad.isfinite().all()


def test_an_example_of_nothing_but_padding_leaves_loss_and_gradient_alone() -> None:
    student, teacher = random_log_probs([4], 4, seed=1), random_log_probs([4], 4, seed=2)
    nothing = torch.full_like(student, math.nan)
    both = torch.cat([student, nothing]).requires_grad_()
    loss = attention_kl(both, torch.cat([teacher, nothing]), mask_of([4, 0], 4))
    loss.backward()
    assert loss.item() == pytest.approx(attention_kl(student, teacher, mask_of([4], 4)).item())
    assert both.grad is not None and both.grad.isfinite().all() and both.grad[1].abs().sum() == 0
    assert attention_kl(nothing, nothing, mask_of([0], 4)).item() == 0.0


@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    distance=st.sampled_from([0.0, 1e-7, 1e-4, 1.0, 50.0]),
)
def test_attention_kl_is_never_negative_nor_nan(seed: int, lengths: list[int], distance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = random_log_probs(lengths, 6, seed=seed)
    noise = distance * torch.randn(teacher.shape, generator=generator)
    student = (teacher + noise).nan_to_num(nan=-math.inf).log_softmax(-1).requires_grad_()
    loss = attention_kl(student, teacher, mask_of(lengths, 6))
    loss.backward()
    assert 0.0 <= loss.item() < math.inf
    assert student.grad is not None and student.grad.isfinite().all()


def test_rounding_below_zero_is_lifted_without_losing_the_gradient() -> None:
    # Probabilities that sum to slightly more than 1 are what rounding produces, here made large enough to see.
    teacher = torch.full((1, 1, 2, 2), math.log(0.5))
    student = (teacher + 1e-4).requires_grad_()
    loss = attention_kl(student, teacher, torch.ones(1, 2))
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad is not None and torch.allclose(student.grad, torch.full_like(student, -0.25))


def test_gradient_of_attention_scores_is_student_minus_teacher_probabilities() -> None:
    scores = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    teacher = random_log_probs([4], 4, heads=1, seed=4)
    attention_kl(scores.log_softmax(-1), teacher, torch.ones(1, 4)).backward()
    assert scores.grad is not None
    assert torch.allclose(scores.grad, (scores.softmax(-1) - teacher.exp()) / 4, atol=1e-6)


def test_half_precision_attention_is_summed_in_fp32() -> None:
    lengths = [64, 40]
    student, teacher = random_log_probs(lengths, 64, seed=1), random_log_probs(lengths, 64, seed=2)
    loss = attention_kl(student.bfloat16(), teacher.bfloat16(), mask_of(lengths, 64))
    expected = attention_kl(student.bfloat16().float(), teacher.bfloat16().float(), mask_of(lengths, 64))
    assert loss.equal(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = attention_kl(student, teacher, mask_of(lengths, 64))
    assert under_autocast.equal(attention_kl(student, teacher, mask_of(lengths, 64)))
