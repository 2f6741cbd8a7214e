"""What a finished run predicted and how it scored, from its own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from internal_kd.checksums import verified
from internal_kd.plan.runs import Run
from internal_kd.plan.store import read_record
from internal_kd.tasks.info import ScoreColumn, TaskInfo
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import score
from internal_kd.tasks.tags import span_counts, types_of, word_id

if TYPE_CHECKING:
    import numpy as np

DEV = "dev"


class Predictions(NamedTuple):
    """Gold labels (N,) and logits (N, C) of a dev set, by the ids of its examples, of tags its words: ``rows`` (N,)."""

    rows: np.ndarray
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
    frame = pd.read_parquet(run.folder / name)
    frame = frame.sort_values(["idx", "token"] if "token" in frame else "idx", kind="stable")
    rows = frame["idx"].to_numpy()
    rows = word_id(rows, frame["token"].to_numpy()) if "token" in frame else rows
    logits = frame[[column for column in frame if column.startswith("logit_")]].to_numpy(np.float32)
    return Predictions(rows, frame["label"].to_numpy(), logits)


def score_of(run: Run, record: Mapping[str, Any], info: TaskInfo, column: ScoreColumn) -> float | None:
    """Return a run's score in natural units, None if it is not defined.

    The record's own scores count; a metric that was named after the training, or a second dev set, is computed from the
    predictions.
    """
    recorded = record.get("scores") or {}
    if column.split == DEV and column.metric in recorded:
        return recorded[column.metric]
    found = predictions_of(run, column.split)
    return defined_score(found, info, column.metric)


def defined_score(found: Predictions, info: TaskInfo, metric: str) -> float | None:
    """Return the score of predictions, None if it is not defined."""
    kind = KINDS[info.kind]
    labels, predicted = (kind.by_example(found.rows, one) for one in (found.labels, kind.predicted(found.logits)))
    value = score(labels, predicted, metric, info.outputs)
    return value if math.isfinite(value) else None


class EntityScore(NamedTuple):
    """How one type of entity is found; shares from 0 to 1, ``entities`` in the gold labels."""

    type: str
    entities: int
    precision: float
    recall: float
    f1: float


def entity_scores(found: Predictions, info: TaskInfo) -> tuple[EntityScore, ...]:
    """Return the scores of each type of a task of tags; nothing for other tasks."""
    if info.kind != "tags":
        return ()
    kind = KINDS[info.kind]
    labels, predicted = (kind.by_example(found.rows, one) for one in (found.labels, kind.predicted(found.logits)))
    sums = span_counts(labels, predicted, info.outputs).sum(0).reshape(3, -1)
    return tuple(
        EntityScore(name, int(gold), right / max(said, 1), right / max(gold, 1), 2 * right / max(said + gold, 1))
        for name, right, said, gold in zip(types_of(info.labels), *sums.tolist(), strict=True)
    )
