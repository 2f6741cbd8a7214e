"""What a finished run predicted and how it scored, from its own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from internal_kd.files import verified
from internal_kd.plan.runs import Run
from internal_kd.plan.store import read_record
from internal_kd.tasks.info import ScoreColumn, TaskInfo
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import score

if TYPE_CHECKING:
    import numpy as np

DEV = "dev"


class Predictions(NamedTuple):
    """Gold labels (N,) and logits (N, C) of a dev set, in the order of example ids, ``idx`` (N,)."""

    idx: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def predictions_of(run: Run, split: str = DEV) -> Predictions:
    """Return what a run predicted after its training.

    Raises:
        Damaged: the file is missing or not what was written.
    """
    import numpy as np
    import pandas as pd

    name = "predictions.parquet" if split == DEV else f"predictions_{split}.parquet"
    verified(run.folder, read_record(run), [name])
    frame = pd.read_parquet(run.folder / name).sort_values("idx", kind="stable")
    logits = frame[[column for column in frame if column.startswith("logit_")]].to_numpy(np.float32)
    return Predictions(frame["idx"].to_numpy(), frame["label"].to_numpy(), logits)


def score_of(run: Run, record: Mapping[str, Any], info: TaskInfo, column: ScoreColumn) -> float | None:
    """Return a run's score in natural units, None if it is not defined.

    The record's own scores count; a metric that was named after the training, or a second dev set, is computed from the
    predictions.
    """
    recorded = record.get("scores") or {}
    if column.split == DEV and column.metric in recorded:
        return recorded[column.metric]
    found = predictions_of(run, column.split)
    return defined_score(found.labels, found.logits, info, column.metric)


def defined_score(labels: np.ndarray, logits: np.ndarray, info: TaskInfo, metric: str) -> float | None:
    """Return the score of logits (N, C), None if it is not defined."""
    value = score(labels, KINDS[info.kind].predicted(logits), metric, info.outputs)
    return value if math.isfinite(value) else None
