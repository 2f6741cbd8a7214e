"""The soft decision tree's network: path probabilities in log space, leaves, and how evenly its gates divide.

Inner nodes are numbered level by level: node 0 is the root, the children of i are 2i + 1 (left) and 2i + 2 (right).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internal_kd.learners.learner import OF_TREES, Captured, InputShape, Wanted
from internal_kd.learners.small_networks import Features, SmallModule

# Logarithms beyond these bounds mean "surely" and "never" and have no gradient. Without the bounds most numbers of a
# trained tree fall below fp32's normal range, where processors compute many times more slowly.
SUREST, NEVER = 15.0, -30.0


class Leaves(nn.Module):
    """The distribution of every leaf, (leaves, C): the same for every input."""

    def __init__(self, leaves: int, outputs: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.randn(leaves, outputs) * 0.1)

    def forward(self) -> Tensor:
        """Return the logarithms of the leaves' probabilities, (leaves, C)."""
        return F.log_softmax(self.scores.float(), dim=-1)


class SoftTree(SmallModule):
    """A soft binary decision tree."""

    hands_out = frozenset({"logits"}) | OF_TREES
    reached: Tensor
    right: Tensor
    decay: Tensor
    strength: Tensor

    def __init__(self, inputs: InputShape, depth: int, outputs: int, inverse_temperature: float) -> None:
        super().__init__()
        self.depth, self.inverse_temperature = depth, inverse_temperature
        self.features = Features(inputs)
        self.gates = nn.Linear(inputs.features, 2**depth - 1)
        self.head = Leaves(2**depth, outputs)
        levels = torch.cat([torch.full((2**level,), float(level)) for level in range(depth)])
        # Of the moving averages: the window doubles with each level, as a node's examples halve.
        self.register_buffer("decay", 1 - 2.0**-levels, persistent=False)
        self.register_buffer("strength", 2.0**-levels, persistent=False)
        self.register_buffer("reached", torch.zeros(2**depth - 1))
        self.register_buffer("right", torch.zeros(2**depth - 1))

    def forward(self, *given: Tensor) -> Tensor:
        """Return the logarithms of the most probable leaf's distribution, (B, C)."""
        leaves = self.paths(*given)[1].argmax(dim=-1)
        return self.head()[leaves]

    def paths(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return of a batch, in logarithms: P of inner nodes (B, N), P of leaves (B, N + 1), p of going right (B, N).

        Products of many probabilities become 0 in fp32; sums of logarithms do not.
        """
        decisions = (self.inverse_temperature * self.gates(self.features(*given)).float()).clamp(-SUREST, SUREST)
        right, left = F.logsigmoid(decisions), F.logsigmoid(-decisions)
        here = torch.zeros_like(decisions[:, :1])
        reached = []
        for level in range(self.depth):
            nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
            reached.append(here)
            here = torch.stack([here + left[:, nodes], here + right[:, nodes]], dim=-1).flatten(1)
        return torch.cat(reached, dim=1), here, right

    def hand_out(self, given: Sequence[Tensor], wanted: Wanted) -> Captured:
        """Return what is asked for of a batch.

        ``path_log_likelihood`` (B, C) is the sum over leaves of P(leaf) log Q(leaf). ``imbalance`` (B,) sums
        2^-level (-log a - log(1 - a)) / 2 over inner nodes, where a is the share that goes right, a moving average.
        """
        reached, leaves, right = self.paths(*given)
        found: Captured = {}
        if ("logits", 0) in wanted:
            found["logits", 0] = self.head()[leaves.argmax(dim=-1)]
        if ("path_log_likelihood", 0) in wanted:
            found["path_log_likelihood", 0] = _probabilities(leaves) @ self.head()
        if ("imbalance", 0) in wanted:
            found["imbalance", 0] = self._imbalance(reached, right)
        return found

    def _imbalance(self, reached: Tensor, right: Tensor) -> Tensor:
        here, to_right = _probabilities(reached), _probabilities(reached + right)
        if self.training:
            with torch.no_grad():
                self.reached.lerp_(here.mean(dim=0), 1 - self.decay)
                self.right.lerp_(to_right.mean(dim=0), 1 - self.decay)
        everything = self.reached.clamp_min(torch.finfo(torch.float32).tiny)
        share = (self.right / everything).clamp(1e-6, 1 - 1e-6)
        value = (self.strength * -0.5 * (share.log() + torch.log1p(-share))).sum()
        # The value is that of the moving average, the gradient that of each example's part in it, to first order.
        slope = self.strength * -0.5 * (1 / share - 1 / (1 - share)) / everything
        parts = ((to_right - share * here) * slope).sum(dim=1)
        return value + parts - parts.detach()


def _probabilities(logs: Tensor) -> Tensor:
    return logs.clamp_min(NEVER).exp()
