"""Losses on attention scores, and attention transfer, against their definitions."""

import math

import pytest
import torch
from loss_cases import log_probabilities, mask_of
from torch import Tensor

from internal_kd.distillation.losses import attention_kl, attention_score_mse, attention_transfer
from internal_kd.errors import UserError


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("centred", [False, True])
def test_attention_score_mse_averages_over_heads_real_queries_and_real_keys(centred: bool) -> None:
    lengths = [5, 2, 1]
    student, teacher = drawn(1, 3, 2, 5, 5), drawn(2, 3, 2, 5, 5)
    examples = []
    for b, n in enumerate(lengths):
        sides = [side[b, :, :n, :n].double() for side in (student, teacher)]
        if centred:
            sides = [side - side.mean(-1, keepdim=True) for side in sides]
        examples.append((sides[0] - sides[1]).square().mean())
    found = attention_score_mse(student, teacher, mask_of(lengths, 5), centred=centred)
    assert found.item() == pytest.approx(torch.stack(examples).mean().item(), rel=1e-5)


def test_a_constant_in_a_row_of_scores_counts_only_if_they_are_not_centred() -> None:
    scores, mask = drawn(1, 2, 3, 4, 4), mask_of([4, 3], 4)
    moved = scores + drawn(2, 2, 3, 4, 1)
    assert attention_score_mse(moved, scores, mask).item() > 0.1
    assert attention_score_mse(moved, scores, mask, centred=True).item() == pytest.approx(0, abs=1e-9)


def test_scores_are_log_probabilities_plus_their_rows_logarithm_of_the_sum() -> None:
    queries, keys, mask = drawn(1, 2, 3, 5, 4), drawn(2, 2, 3, 5, 4), mask_of([5, 3], 5)
    scores = queries @ keys.mT / 2
    log_sums = scores.masked_fill(mask[:, None, None] == 0, -math.inf).logsumexp(-1)
    rebuilt = log_probabilities(scores, mask) + log_sums[..., None]
    assert attention_score_mse(rebuilt, scores, mask).item() == pytest.approx(0, abs=1e-10)


def test_attention_transfer_compares_how_much_each_key_is_looked_at() -> None:
    lengths = [5, 3]
    mask = mask_of(lengths, 5)
    student, teacher = (log_probabilities(drawn(seed, 2, heads, 5, 5), mask) for seed, heads in ((1, 2), (2, 3)))
    examples = []
    for b, n in enumerate(lengths):
        sides = []
        for side in (student, teacher):
            weights = side[b, :, :n, :n].double().exp().square().sum((0, 1))
            sides.append(weights / weights.norm())
        examples.append((sides[0] - sides[1]).square().mean())
    found = attention_transfer(student, teacher, mask)
    assert found.item() == pytest.approx(torch.stack(examples).mean().item(), rel=1e-5)


def test_copies_of_a_head_change_no_transfer() -> None:
    mask = mask_of([4], 4)
    log_probs = log_probabilities(drawn(1, 1, 2, 4, 4), mask)
    assert attention_transfer(log_probs.repeat(1, 3, 1, 1), log_probs, mask).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("loss", [attention_kl, attention_transfer])
def test_a_student_that_never_looks_at_a_real_key_has_a_finite_gradient(loss) -> None:
    student = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).log()[None, None].requires_grad_()
    loss(student, torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()[None, None], torch.ones(1, 2)).backward()
    assert student.grad is not None and student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: attention_kl(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 3), torch.ones(1, 3)), "(1, 4, 3, 3)"),
        (lambda: attention_kl(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 5)), "(1, 5)"),
        (lambda: attention_kl(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), torch.ones(1, 3)), "4 axes"),
        (
            lambda: attention_score_mse(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 3), torch.ones(1, 3)),
            "(1, 4, 3, 3)",
        ),
        (
            lambda: attention_score_mse(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), torch.ones(1, 3)),
            "(1, 2, 3, 4)",
        ),
        (
            lambda: attention_transfer(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 4, 4), torch.ones(1, 3)),
            "(1, 2, 4, 4)",
        ),
        (lambda: attention_transfer(torch.zeros(1, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 3)), "(1, 3, 3)"),
        (lambda: attention_transfer(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 4)), "(1, 4)"),
    ],
)
def test_what_does_not_fit_is_named(call, named: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert named in str(error.value) and "\n" not in str(error.value)
