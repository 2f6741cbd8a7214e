"""The optimizer of a training and its learning rate; importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from internal_kd.distillation.augmenting import Augment
from internal_kd.fields import Count, Frozen, NotNegative, Positive, Share

if TYPE_CHECKING:
    import torch
    from torch import nn


class TrainingParams(Frozen):
    """One training: the optimizer, warm-up, linear decay."""

    epochs: Count = 3
    steps_per_epoch: Count | None = Field(
        None, description="steps that count as an epoch, however few the examples are; once through all if left out"
    )
    batch_size: Count = 32
    learning_rate: Positive = 2e-5
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with `momentum`")
    momentum: Share = Field(0.9, description="of sgd")
    warmup_share: Share = Field(0.1, description="share of all steps")
    weight_decay: NotNegative = 0.01
    max_gradient_norm: Positive = 1.0
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 autocast where it is native")
    augment: Augment = Field(Augment(), description="how training images are changed; teachers answer them unchanged")


def make_optimizer(modules: Iterable[nn.Module], training: TrainingParams) -> torch.optim.Optimizer:
    """Return the optimizer of some modules' parameters; biases and normalisation are not decayed."""
    from torch.optim import SGD, AdamW

    weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim > 1]
    vectors = [weight for weight in weights if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "sgd":
        return SGD(groups, lr=training.learning_rate, momentum=training.momentum)
    return AdamW(groups, lr=training.learning_rate, fused=True)


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
