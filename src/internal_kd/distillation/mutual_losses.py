"""The terms of two learners that teach each other, as pure functions: fp32 scalars, the mean over a batch.

The divergence is summed over the classes of an example, not averaged; the peer's side has no gradient, and neither have
the weights of the examples.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from internal_kd.distillation.arithmetic import require_class_labels, require_same_shape
from internal_kd.distillation.output_losses import soft_label_loss

# The smallest and largest weight of an example, from the code of Lai et al. 2020.
SMALLEST, LARGEST = 0.01, 100.0


def mutual(logits: Tensor, peer_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(peer || self), of all examples.

    Logits: (batch, classes). With one column (regression) it is the mean squared difference.
    Source: Zhang, Xiang, Hospedales, Lu 2018, Deep Mutual Learning (arXiv 1706.00384); its temperature is 1.
    Raises UserError when the shapes differ or the temperature is not positive.
    """
    return soft_label_loss(logits, peer_logits, temperature)


def mutual_gated(logits: Tensor, peer_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(peer || self), of the examples on which the peer has the smaller loss.

    Logits: (batch, classes); labels: (batch,) class numbers. The mean is over all examples; the others count 0.
    Source: Lai et al. 2020, Dual Policy Distillation (arXiv 2006.04061), proposition 2, on labelled examples: the
    advantage of the peer is the difference of the cross-entropies.
    Raises UserError when shapes or labels do not match, or when the temperature is not positive.
    """
    gate = (_advantage(logits, peer_logits, labels) > 0).float()
    return soft_label_loss(logits, peer_logits, temperature, gate)


def mutual_shuffled(logits: Tensor, peer_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """`mutual_gated` with the gate of another example: the control, a gate of the same rate that knows nothing.

    Every example takes the gate of the one before it in the batch, whose order is random. Shapes as there.
    Source: ours, a control for Lai et al. 2020, Dual Policy Distillation (arXiv 2006.04061).
    Raises UserError when shapes or labels do not match, or when the temperature is not positive.
    """
    gate = (_advantage(logits, peer_logits, labels) > 0).float()
    return soft_label_loss(logits, peer_logits, temperature, gate.roll(1))


def mutual_weighted(
    logits: Tensor, peer_logits: Tensor, labels: Tensor, temperature: float, sharpness: float
) -> Tensor:
    """T^2 * KL(peer || self), weighed by exp(sharpness * (loss of self - loss of peer)).

    Weights are clipped to 0.01 and 100 and divided by their mean over the batch. Shapes as in `mutual_gated`.
    Source: Lai et al. 2020, Dual Policy Distillation (arXiv 2006.04061), and the clipping of its code.
    Raises UserError when shapes or labels do not match, or when the temperature is not positive.
    """
    exponent = sharpness * _advantage(logits, peer_logits, labels)
    weights = exponent.clamp(math.log(SMALLEST), math.log(LARGEST)).exp()
    return soft_label_loss(logits, peer_logits, temperature, weights / weights.mean())


def _advantage(logits: Tensor, peer_logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the peer's cross-entropy is smaller, (batch,)."""
    require_same_shape("logits of two learners", logits, peer_logits, dimensions=2)
    require_class_labels("the loss of two learners", logits, labels)
    own, peer = (
        F.cross_entropy(one.detach().float(), labels.long(), reduction="none") for one in (logits, peer_logits)
    )
    return own - peer
