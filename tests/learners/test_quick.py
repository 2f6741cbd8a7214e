"""Dropout from few random numbers is dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from internal_kd.models.dropout import Dropout, dropout, use_quick_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_share_of_p_is_dropped_and_the_mean_is_kept(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    out = dropout(torch.ones(400, 1001, dtype=dtype), p, training=True).float()
    dropped = (out == 0).float()
    assert dropped.mean().item() == pytest.approx(p, abs=0.003)
    assert out.mean().item() == pytest.approx(1.0, abs=0.008)
    for axis in (0, 1):  # no row and no column is special
        assert dropped.mean(axis).std().item() == pytest.approx((p * (1 - p) / dropped.shape[axis]) ** 0.5, rel=0.15)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(2)
    dropped = (dropout(torch.ones(1_000_000), 0.5, training=True) == 0).float()
    for distance in (1, 2, 3, 4, 8):
        both = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert both == pytest.approx(0.25, abs=0.002)


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(3)
    values = torch.randn(50, 7, requires_grad=True)
    out = dropout(values, 0.3, training=True)
    out.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad == 0, out.detach() == 0)
    assert torch.allclose(values.grad * values.detach(), out.detach())


def test_it_follows_torchs_random_state_and_nothing_else() -> None:
    values = torch.ones(1000)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first, second = dropout(values, 0.1, training=True), dropout(values, 0.1, training=True)
    torch.set_rng_state(state)
    assert torch.equal(dropout(values, 0.1, training=True), first)
    assert not torch.equal(first, second)


def test_without_training_or_probability_nothing_happens() -> None:
    values = torch.randn(10)
    assert dropout(values, 0.1, training=False) is values
    assert dropout(values, 0.0, training=True) is values
    assert not dropout(values, 1.0, training=True).any()


def test_a_models_modules_are_replaced_and_its_weights_stay() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.25), nn.Linear(4, 2))).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    use_quick_dropout(model)
    inner = model[1]
    assert isinstance(inner, nn.Sequential)
    replaced = inner[0]
    assert isinstance(replaced, Dropout) and replaced.p == 0.25 and not replaced.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
