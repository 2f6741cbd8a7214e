"""The optimizer of a training and its learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import nn

from internal_kd.distillation.augmenting import Augment


class TrainingSettings(Protocol):
    """What a training reads of a method's parameters."""

    @property
    def epochs(self) -> int:
        """Of the whole training; phases name their own."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches of an epoch; None: as many as it takes to see every example once."""

    @property
    def batch_size(self) -> int:
        """Examples that one optimizer step sees."""

    @property
    def learning_rate(self) -> float:
        """The highest."""

    @property
    def optimizer(self) -> str:
        """ "adamw", always with bias correction, or "sgd"."""

    @property
    def momentum(self) -> float:
        """Of sgd."""

    @property
    def warmup_share(self) -> float:
        """Share of all steps."""

    @property
    def weight_decay(self) -> float:
        """Of matrices; biases and normalisation are not decayed."""

    @property
    def max_gradient_norm(self) -> float:
        """Gradients are scaled down to it."""

    @property
    def augment(self) -> Augment:
        """How training examples are changed."""


def make_optimizer(modules: Iterable[nn.Module], training: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimizer of some modules' parameters; biases and normalisation are not decayed."""
    weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim > 1]
    vectors = [weight for weight in weights if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum)
    return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)


@dataclass
class LearningRate:
    """Warm up linearly, hold while the curriculum climbs, then decay linearly to zero [hold: ours].

    Attributes:
        highest: the rate after warm-up.
        warmup_share: of ``steps``.
        first: the step at which it begins.
        steps: how many it has.
        decay_start: the step at which decay begins, warm-up permitting; None while the curriculum climbs.

    Example:
        >>> rate = LearningRate(highest=1.0, warmup_share=0.25, first=0, steps=8, decay_start=0)
        >>> [round(rate.at(step), 2) for step in range(8)]
        [0.33, 0.67, 1.0, 0.83, 0.67, 0.5, 0.33, 0.17]
    """

    highest: float
    warmup_share: float
    first: int
    steps: int
    decay_start: int | None

    def at(self, step: int) -> float:
        """Return the rate of a step, counted from 0 over the whole training."""
        here, warmup = step - self.first, round(self.warmup_share * self.steps)
        if here < warmup:
            return self.highest * ((here + 1) / (warmup + 1))
        if self.decay_start is None:
            return self.highest
        start = max(self.decay_start - self.first, warmup)
        return self.highest * max(0.0, (self.steps - here) / max(1, self.steps - start))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return asdict(self)
