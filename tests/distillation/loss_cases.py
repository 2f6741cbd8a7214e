"""Every loss with inputs to try it on: what the tests of all losses are parametrised with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from internal_kd.distillation import losses

JUNK = [math.nan, math.inf, -math.inf, 1e4]


def mask_of(lengths: list[int], length: int) -> Tensor:
    """Right-padded examples of these lengths, (batch, length)."""
    return (torch.arange(length) < torch.tensor(lengths)[:, None]).long()


def states(generator: torch.Generator, batch: int, length: int, width: int) -> Tensor:
    """Hidden states, queries, keys or values."""
    return torch.randn(batch, length, width, generator=generator)


def stacks(generator: torch.Generator, batch: int, length: int, width: int) -> Tensor:
    """Hidden states of four levels."""
    return torch.randn(batch, 4, length, width, generator=generator)


def maps(generator: torch.Generator, batch: int, length: int, heads: int) -> Tensor:
    """Attention scores, a softmax of which is whatever the real keys of an example make of them."""
    return 2 * torch.randn(batch, heads, length, length, generator=generator)


def normalised(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss on log-probabilities as one on scores, so that padding can be cut off without changing the rest."""

    def on_scores(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return loss(log_probabilities(student, mask), log_probabilities(teacher, mask), mask)

    return on_scores


def log_probabilities(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over real keys; padding keeps what it holds."""
    both = (mask[:, None, :, None] * mask[:, None, None, :]).bool()
    finite = torch.where(both, scores.float(), -1e30).log_softmax(-1)
    return torch.where(both, finite, scores.detach().float())


@dataclass(frozen=True)
class TokenLoss:
    """A loss of (student, teacher, attention_mask); ``sizes`` are widths, or heads, that the two sides may have."""

    loss: Callable[..., Tensor]
    draw: Callable[..., Tensor]
    sizes: tuple[int, int]

    def pair(self, seed: int, batch: int, length: int) -> tuple[Tensor, Tensor]:
        """Student's and teacher's tensors."""
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (self.draw(generator, batch, length, size) for size in self.sizes)
        return student, teacher

    @property
    def token_axes(self) -> tuple[int, ...]:
        """Axes of a tensor along which tokens lie."""
        return {states: (1,), stacks: (2,), maps: (2, 3)}[self.draw]  # type: ignore[dict-item]

    def padding(self, mask: Tensor) -> Tensor:
        """Where a tensor holds padding, to be broadcast."""
        real = mask.bool()
        if self.draw is states:
            return ~real[..., None]
        if self.draw is stacks:
            return ~real[:, None, :, None]
        return ~(real[:, None, :, None] & real[:, None, None, :])

    def cropped(self, tensor: Tensor, example: int, length: int) -> Tensor:
        """One example without its padding."""
        for axis in self.token_axes:
            tensor = tensor.narrow(axis, 0, length)
        return tensor[example : example + 1]


def part(loss: Callable[..., Any], which: int, **options: Any) -> Callable[..., Tensor]:
    """The distance (0) or the angle (1) of a relation."""
    return lambda *tensors: loss(*tensors, **options)[which]


TOKEN_LOSSES: dict[str, TokenLoss] = {
    "hidden_mse": TokenLoss(losses.hidden_mse, states, (8, 8)),
    "hidden_cosine": TokenLoss(losses.hidden_cosine, states, (8, 8)),
    "relation_kl": TokenLoss(partial(losses.relation_kl, heads=2), states, (8, 12)),
    "token_energy": TokenLoss(losses.token_energy, states, (8, 12)),
    "word_distance": TokenLoss(part(losses.word_relation, 0), states, (8, 12)),
    "word_angle": TokenLoss(part(losses.word_relation, 1), states, (8, 12)),
    "word_angle_narrow": TokenLoss(part(losses.word_relation, 1, window=2), states, (8, 12)),
    "layer_distance": TokenLoss(part(losses.layer_relation, 0), stacks, (8, 12)),
    "layer_angle": TokenLoss(part(losses.layer_relation, 1), stacks, (8, 12)),
    "attention_kl": TokenLoss(normalised(losses.attention_kl), maps, (3, 3)),
    "attention_transfer": TokenLoss(normalised(losses.attention_transfer), maps, (3, 2)),
    "attention_score_mse": TokenLoss(losses.attention_score_mse, maps, (3, 3)),
    "attention_score_mse_centred": TokenLoss(partial(losses.attention_score_mse, centred=True), maps, (3, 3)),
}


@dataclass(frozen=True)
class ExampleLoss:
    """A loss of (student, teacher, labels) with one row an example; ``columns`` the two sides may have."""

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    columns: tuple[int, int] = (5, 5)
    across_batch: bool = False
    zero_for_equal: bool = True

    def pair(self, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """Student's and teacher's tensors."""
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (2 * torch.randn(batch, columns, generator=generator) for columns in self.columns)
        return student, teacher


EXAMPLE_LOSSES: dict[str, ExampleLoss] = {
    "soft": ExampleLoss(lambda s, t, y: losses.soft_label_loss(s, t, 2.0)),
    "hard": ExampleLoss(lambda s, t, y: losses.hard_label_loss(s, y), zero_for_equal=False),
    "label_smoothing": ExampleLoss(lambda s, t, y: losses.label_smoothing(s, y, 0.1), zero_for_equal=False),
    "beta_smoothing": ExampleLoss(
        lambda s, t, y: (torch.manual_seed(0), losses.beta_smoothing(s, t, y, 3.0))[1],
        across_batch=True,
        zero_for_equal=False,
    ),
    "confidence_penalty": ExampleLoss(lambda s, t, y: losses.confidence_penalty(s, 0.3), zero_for_equal=False),
    "dkd": ExampleLoss(lambda s, t, y: losses.dkd(s, t, y, 4.0, 1.0, 8.0)),
    "dist_inter": ExampleLoss(lambda s, t, y: losses.dist(s, t, 4.0, 2.0, 0.0)),
    "dist": ExampleLoss(lambda s, t, y: losses.dist(s, t, 4.0, 2.0, 2.0), across_batch=True),
    "cls_cosine": ExampleLoss(lambda s, t, y: losses.cls_cosine(s, t)),
    "patient_cls": ExampleLoss(lambda s, t, y: losses.patient_cls(s, t)),
    "tree_hard": ExampleLoss(lambda s, t, y: losses.tree_hard(s.log_softmax(-1), y), zero_for_equal=False),
    "tree_soft": ExampleLoss(lambda s, t, y: losses.tree_soft(s.log_softmax(-1), t)),
    "tree_balance": ExampleLoss(lambda s, t, y: losses.tree_balance(s[:, 0].abs()), zero_for_equal=False),
    "mutual": ExampleLoss(lambda s, t, y: losses.mutual(s, t, 2.0)),
    "mutual_gated": ExampleLoss(lambda s, t, y: losses.mutual_gated(s, t, y, 2.0)),
    "mutual_weighted": ExampleLoss(lambda s, t, y: losses.mutual_weighted(s, t, y, 2.0, 0.5), across_batch=True),
    "rkd_distance": ExampleLoss(lambda s, t, y: losses.rkd(s, t)[0], (5, 9), across_batch=True),
    "rkd_angle": ExampleLoss(lambda s, t, y: losses.rkd(s, t)[1], (5, 9), across_batch=True),
}


def labels_for(batch: int) -> Tensor:
    """Class numbers below five."""
    return torch.arange(batch) % 5
