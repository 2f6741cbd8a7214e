"""Logits of a classifier for every example of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from internal_kd.distillation.hardware import Hardware, in_micro_batches
from internal_kd.distillation.teachers import model_inputs

if TYPE_CHECKING:
    import pandas as pd

    from internal_kd.data.tokens import TokenSplit


def predict_logits(model: PreTrainedModel, split: TokenSplit, hardware: Hardware, batch_size: int = 64) -> np.ndarray:
    """Return (examples, classes) fp32 logits in the order of the split; longest first: memory peaks early.

    Raises:
        UserError: memory runs out with one example at a time.
    """
    was_training = model.training
    model.eval()
    order = np.argsort(-np.asarray(split.lengths), kind="stable")
    parts: list[np.ndarray] = []

    def predict(positions: np.ndarray) -> None:
        batch = split.batch(positions)
        parts.append(model(**model_inputs(batch, hardware.device)).logits.float().cpu().numpy())

    with torch.no_grad(), hardware.autocast():
        in_micro_batches(order, batch_size, predict)
    model.train(was_training)
    predicted = np.concatenate(parts)
    logits = np.empty_like(predicted)
    logits[order] = predicted
    return logits


def predictions_frame(split: TokenSplit, logits: np.ndarray) -> pd.DataFrame:
    """Return a table with idx, label, logit_0, ... one row per example."""
    import pandas as pd

    columns: dict[str, Any] = {"idx": np.asarray(split.idx), "label": np.asarray(split.labels)}
    columns |= {f"logit_{i}": logits[:, i] for i in range(logits.shape[1])}
    return pd.DataFrame(columns)
