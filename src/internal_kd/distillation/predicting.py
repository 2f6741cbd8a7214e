"""Logits of a network for every example of a split."""

from __future__ import annotations

import numpy as np
import torch

from internal_kd.distillation.batches import Examples, rows_of
from internal_kd.distillation.hardware import Hardware, in_micro_batches
from internal_kd.learners.learner import Network
from internal_kd.learners.rows import row_ids


def predict_logits(
    network: Network,
    examples: Examples,
    hardware: Hardware,
    *,
    positions: np.ndarray | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Return (rows, outputs) fp32 logits in the order of the examples; longest first: memory peaks early.

    A row is an example, or for tags a word (``batches.rows_of``).

    The network is read in eval mode, without dropout, and left in the mode it was in.

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
    ids: list[np.ndarray] = []

    def predict(places: np.ndarray) -> None:
        batch = {name: tensor.to(hardware.device) for name, tensor in examples.batch(chosen[places]).items()}
        parts.append(network.read(batch)["logits", 0].float().cpu().numpy())
        ids.append(row_ids(batch).cpu().numpy())

    with torch.no_grad(), hardware.autocast():
        in_micro_batches(order, batch_size, predict)
    network.module.train(was_training)
    answered = np.concatenate(ids)
    by_id = np.argsort(answered, kind="stable")
    places = np.searchsorted(answered[by_id], rows_of(examples, chosen))
    return np.concatenate(parts)[by_id[places]]
