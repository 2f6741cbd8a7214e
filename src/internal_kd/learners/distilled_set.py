"""A distilled training set (Wang et al. 2018, Sucholutsky and Schonlau 2021): a few examples that teach a network in a
few steps.

What is trained are the examples, their labels and the sizes of the steps. Every batch of real examples asks: after
these steps, how wrong is the network? The answer is differentiated through all of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from internal_kd.errors import UserError
from internal_kd.learners.small_networks import FeedForward, SmallModule


class DistilledSet(SmallModule):
    """Synthetic examples and the network that they teach.

    Args:
        source: of the examples: ``learned``, or what `begin` chooses of the training examples.
        soft: the labels are trained too; they may become negative, as in the authors' code.
        redraw: first weights are drawn again for every batch, so that the examples suit any of them.

    Attributes:
        inputs: (steps, examples, *shape) as the network's body reads them; pixels of real images are between 0 and 1.
        targets: (steps, examples, C).
        raw_step_sizes: (epochs * steps,), before they are multiplied by ``step_size_rate`` and softplus.
    """

    head: nn.ModuleDict

    def __init__(
        self,
        network: FeedForward,
        *,
        examples: int,
        steps: int,
        epochs: int,
        step_size: float,
        step_size_rate: float,
        source: str,
        soft: bool,
        redraw: bool,
    ) -> None:
        super().__init__()
        self.epochs, self.redraw, self.source, self.features = epochs, redraw, source, network.features
        self.step_size_rate = step_size_rate
        outputs = network.head.out_features
        targets = F.one_hot(torch.arange(examples) % outputs, outputs).float()
        self.inputs = nn.Parameter(torch.randn(steps, examples, *network.features.shape), source == "learned")
        self.targets = nn.Parameter(targets.repeat(steps, 1, 1), requires_grad=soft)
        self.raw_step_sizes = nn.Parameter(
            torch.full((epochs * steps,), math.log(math.expm1(step_size)) / step_size_rate)
        )
        first = nn.Sequential(network.body, network.head).requires_grad_(False)
        self.head = nn.ModuleDict({"first": first, "taught": deepcopy(first)})

    def forward(self, *given: Tensor) -> Tensor:
        """Return the logits (B, C) of the network after its last step."""
        features = self.features(*given)
        if self.training:
            return functional_call(self.head["first"], self.taught_weights(), (features,))
        return self.head["taught"](features)

    @torch.no_grad()
    def begin(self, batches: Callable[[], Iterable[tuple[Sequence[Tensor], Tensor]]]) -> None:
        """Choose the examples among the real ones, unless they are learned.

        Raises:
            UserError: a class has fewer examples than are asked for.
        """
        if self.source == "learned":
            return
        classes, slots = self.targets.shape[-1], self.targets.argmax(dim=-1).flatten()
        means, most = self._means(batches, classes), int(torch.bincount(slots).max())
        best = [(mean.new_empty(0), mean.new_empty(0, *mean.shape)) for mean in means]
        for given, labels in batches():
            features = self.features(*given)
            for number, (scores, kept) in enumerate(best):
                own = features[labels == number]
                near = self.source == "nearest"
                lower = (own - means[number]).flatten(1).norm(dim=1) if near else torch.rand(len(own)).to(own.device)
                scores, kept = torch.cat([scores, lower]), torch.cat([kept, own])
                first = scores.argsort()[:most]
                best[number] = scores[first], kept[first]
        turns = [int((slots[:place] == number).sum()) for place, number in enumerate(slots)]
        for place, (number, turn) in enumerate(zip(slots.tolist(), turns, strict=True)):
            if turn >= len(best[number][1]):
                raise UserError(f"learner.examples: class {number} has too few training examples; ask for fewer")
            chosen = means[number] if self.source == "mean" else best[number][1][turn]
            self.inputs.flatten(0, 1)[place] = chosen

    def _means(self, batches: Callable[[], Iterable[tuple[Sequence[Tensor], Tensor]]], classes: int) -> Tensor:
        """Return the mean of every class's examples, (C, *shape)."""
        sums, counts = self.inputs.new_zeros(classes, *self.inputs.shape[2:]), self.inputs.new_zeros(classes)
        for given, labels in batches():
            sums.index_add_(0, labels, self.features(*given))
            counts += torch.bincount(labels, minlength=classes)
        return sums / counts.clamp_min(1).view(-1, *[1] * (sums.ndim - 1))

    def train(self, mode: bool = True) -> DistilledSet:
        """Set the mode; the network for eval mode is taught by the examples as they are now."""
        super().train(mode)
        if not mode:
            with torch.enable_grad():
                taught = self.taught_weights()
            for name, weight in self.head["taught"].named_parameters():
                weight.data.copy_(taught[name].detach())
        return self

    def step_sizes(self) -> Tensor:
        """Return the sizes of the steps (epochs * steps,) in order."""
        return F.softplus(self.raw_step_sizes * self.step_size_rate)

    def taught_weights(self) -> dict[str, Tensor]:
        """Return the network's weights after its last step; in train mode every step can be differentiated."""
        network = self.head["first"]
        if self.training and self.redraw:
            network = deepcopy(network)
            for part in network.modules():
                if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
                    part.reset_parameters()
        weights = {name: weight.detach().clone().requires_grad_() for name, weight in network.named_parameters()}
        course = [pair for _ in range(self.epochs) for pair in zip(self.inputs, self.targets, strict=True)]
        for (inputs, targets), size in zip(course, self.step_sizes(), strict=True):
            loss = _inner_loss(functional_call(network, weights, (inputs,)).float(), targets)
            slopes = torch.autograd.grad(loss, tuple(weights.values()), create_graph=self.training)
            weights = {
                name: weight - size * slope for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }
        return weights


def _inner_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of a step: cross-entropy, whose targets need not be probabilities; for values squared error."""
    if logits.shape[-1] == 1:
        return F.mse_loss(logits, targets)
    return -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1).mean()
