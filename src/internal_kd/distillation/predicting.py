"""Logits of a classifier for every example of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.teachers import model_inputs

if TYPE_CHECKING:
    import pandas as pd

    from internal_kd.data.tokens import TokenSplit


def predict_logits(model: PreTrainedModel, split: TokenSplit, hardware: Hardware, batch_size: int = 64) -> np.ndarray:
    """Return (examples, classes) fp32 logits in the order of the split; longest first: memory peaks early."""
    was_training = model.training
    model.eval()
    order = np.argsort(-np.asarray(split.lengths), kind="stable")
    logits: np.ndarray | None = None
    with torch.no_grad(), hardware.autocast():
        for start in range(0, len(order), batch_size):
            positions = order[start : start + batch_size]
            batch = split.batch(positions)
            out = model(**model_inputs(batch, hardware.device)).logits.float().cpu().numpy()
            if logits is None:
                logits = np.empty((len(order), out.shape[1]), dtype=np.float32)
            logits[positions] = out
    model.train(was_training)
    assert logits is not None
    return logits


def predictions_frame(split: TokenSplit, logits: np.ndarray) -> pd.DataFrame:
    """Return a table with idx, label, logit_0, ... one row per example."""
    import pandas as pd

    columns: dict[str, Any] = {"idx": np.asarray(split.idx), "label": np.asarray(split.labels)}
    columns |= {f"logit_{i}": logits[:, i] for i in range(logits.shape[1])}
    return pd.DataFrame(columns)
