"""Logits of a network for every example of a split."""

from __future__ import annotations

import numpy as np
import torch

from internal_kd.distillation.batches import Examples
from internal_kd.distillation.hardware import Hardware, in_micro_batches
from internal_kd.learners.learner import Network


def predict_logits(
    network: Network,
    examples: Examples,
    hardware: Hardware,
    *,
    positions: np.ndarray | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Return (examples, outputs) fp32 logits in the order of the examples; longest first: memory peaks early.

    Args:
        network: read in eval mode, without dropout, and left in the mode it was in.
        examples: encoded.
        hardware: the network is on its device.
        positions: of the examples to predict, (chosen,); None: all of them.
        batch_size: examples at a time.

    Raises:
        UserError: memory runs out with one example at a time.

    Example:
        >>> predict_logits(network, examples, hardware).shape  # doctest: +SKIP
        (277, 2)
    """
    was_training = network.module.training
    network.module.eval()
    chosen = np.arange(len(examples)) if positions is None else np.asarray(positions)
    order = np.argsort(-np.asarray(examples.lengths)[chosen], kind="stable")
    parts: list[np.ndarray] = []

    def predict(places: np.ndarray) -> None:
        batch = {name: tensor.to(hardware.device) for name, tensor in examples.batch(chosen[places]).items()}
        parts.append(network.read(batch)["logits", 0].float().cpu().numpy())

    with torch.no_grad(), hardware.autocast():
        in_micro_batches(order, batch_size, predict)
    network.module.train(was_training)
    predicted = np.concatenate(parts)
    logits = np.empty_like(predicted)
    logits[order] = predicted
    return logits
