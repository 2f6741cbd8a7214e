"""Weights of examples between two learners that teach each other."""

import pytest
import torch
from torch import Tensor

from internal_kd.distillation.losses import mutual_gated, mutual_shuffled, mutual_weighted, soft_label_loss

LABELS = torch.tensor([0, 0, 1, 1])
# The peer is better on the first and the third example.
OWN = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
PEER = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])


def alone(example: int) -> float:
    """KL(peer || self) of one example."""
    return soft_label_loss(OWN[example : example + 1], PEER[example : example + 1], 1.0).item()


def test_the_gate_lets_the_better_peer_teach() -> None:
    assert mutual_gated(OWN, PEER, LABELS, 1.0).item() == pytest.approx((alone(0) + alone(2)) / 4)


def test_the_shuffled_gate_has_the_same_rate_on_other_examples() -> None:
    assert mutual_shuffled(OWN, PEER, LABELS, 1.0).item() == pytest.approx((alone(1) + alone(3)) / 4)


def test_soft_weights_grow_with_the_advantage_and_have_a_mean_of_one() -> None:
    assert mutual_weighted(OWN, PEER, LABELS, 1.0, sharpness=0.0).item() == pytest.approx(
        soft_label_loss(OWN, PEER, 1.0).item()
    )
    sharp = mutual_weighted(OWN, PEER, LABELS, 1.0, sharpness=50.0).item()
    # Clipped to 100 and 0.01: in effect the two that the peer is better on.
    assert sharp == pytest.approx((alone(0) + alone(2)) / 2, rel=1e-3)


@pytest.mark.parametrize("loss", [mutual_gated, mutual_shuffled, lambda *given: mutual_weighted(*given, sharpness=1.0)])
def test_neither_the_peer_nor_the_weights_have_a_gradient(loss: object) -> None:
    own, peer = OWN.clone().requires_grad_(), PEER.clone().requires_grad_()
    value: Tensor = loss(own, peer, LABELS, 1.0)  # type: ignore[operator]
    value.backward()
    assert peer.grad is None
    # Of weights that are constants the gradient of a row is its weight times that of the divergence.
    towards = own.detach().softmax(-1) - PEER.softmax(-1)
    weights = own.grad[:, 0] / towards[:, 0]
    assert torch.allclose(own.grad, weights[:, None] * towards, atol=1e-6)
