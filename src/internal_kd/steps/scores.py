"""Scores of training examples: from what a scout keeps of its predictions on them, or from a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from internal_kd.checksums import check_unchanged
from internal_kd.data.tables import rows_of
from internal_kd.distillation.batches import Examples
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.predicting import predict_logits
from internal_kd.distillation.selectors import SCORES
from internal_kd.errors import UserError
from internal_kd.learners.learner import Network
from internal_kd.plan.runs import Run, ScoresFile
from internal_kd.plan.store import TRAINING_PREDICTIONS, verifier
from internal_kd.registry import resolve


class TrainingPredictions:
    """Keeps a network's logits on the labelled training examples after every epoch.

    They lie beside the checkpoints, written before a checkpoint counts their epoch, so that a training that goes on
    finds those of the epochs before.
    """

    def __init__(self, run: Run, network: Network, examples: Examples, hardware: Hardware) -> None:
        self._folder = run.checkpoints / "train"
        self._network, self._examples, self._hardware = network, examples, hardware
        self._labelled = np.flatnonzero(np.asarray(examples.labels) >= 0)

    def keep(self, epoch: int) -> None:
        """Predict and keep an epoch, counted from 1."""
        logits = predict_logits(self._network, self._examples, self._hardware, positions=self._labelled)
        self._folder.mkdir(parents=True, exist_ok=True)
        np.save(self._folder / f"{epoch}.npy", logits)

    def write(self, folder: Path, epochs: int) -> None:
        """Write all epochs as one table: idx, label, epoch, logit_0, ..."""
        logits = np.concatenate(
            [np.load(self._folder / f"{epoch}.npy", allow_pickle=False) for epoch in range(1, epochs + 1)]
        )
        columns = {
            "idx": np.tile(np.asarray(self._examples.idx)[self._labelled], epochs),
            "label": np.tile(np.asarray(self._examples.labels)[self._labelled], epochs),
            "epoch": np.repeat(np.arange(1, epochs + 1), len(self._labelled)),
        }
        named = {f"logit_{number}": logits[:, number] for number in range(logits.shape[1])}
        pd.DataFrame(columns | named).to_parquet(folder / TRAINING_PREDICTIONS, index=False)


def scores_for(run: Run, idx: np.ndarray) -> np.ndarray | None:
    """Return the scores of examples ``idx`` (examples,) that choose a run's training set, None if none do.

    Raises:
        UserError: the scores are of other examples, or the scout stopped before the epoch asked for.
    """
    if isinstance(run.scored_by, ScoresFile):
        return _of_file(run.scored_by, idx)
    if not run.scored_by:
        return None
    return np.mean([_of_scout(run, scout, idx) for scout in run.scored_by], axis=0)


def _of_scout(run: Run, scout: Run, idx: np.ndarray) -> np.ndarray:
    path = scout.folder / TRAINING_PREDICTIONS
    verifier(scout)(path)
    table = pd.read_parquet(path)
    epochs = int(table["epoch"].max())
    last = (run.method.scout.epoch if run.method.scout else None) or epochs
    if last > epochs:
        raise UserError(f"select.of: {scout.label} has {epochs} epochs, and no epoch {last}")
    first = table[table["epoch"] == 1]
    logits = table.filter(like="logit_").to_numpy().reshape(epochs, len(first), -1)[:last]
    scores = resolve(SCORES[run.method.settings.select.by])(logits, first["label"].to_numpy())
    return _in_order_of(idx, first["idx"].to_numpy(), scores, scout.label)


def _of_file(file: ScoresFile, idx: np.ndarray) -> np.ndarray:
    check_unchanged(file.path, file.content)
    found: dict[int, float] = {}
    for place, (example, score) in rows_of(file.path, ["idx", "score"]):
        try:
            key, value = int(example), float(score)
        except (TypeError, ValueError):
            key, value = -1, math.nan
        if math.isnan(value):
            raise UserError(f"{file.path}, {place}: idx {example!r} and score {score!r} should be numbers")
        if found.setdefault(key, value) != value:
            raise UserError(f"{file.path}, {place}: example {key} has two scores; give it one")
    return _in_order_of(idx, np.array([*found], np.int64), np.array([*found.values()]), str(file.path))


def _in_order_of(idx: np.ndarray, of: np.ndarray, scores: np.ndarray, who: str) -> np.ndarray:
    """Return the scores of examples ``of`` in the order of ``idx``."""
    missing, other = np.setdiff1d(idx, of), np.setdiff1d(of, idx)
    if len(missing) or len(other):
        example = (
            f"none for example {missing[0]}" if len(missing) else f"one for example {other[0]}, which is not there"
        )
        raise UserError(
            f"select.by: the scores of {who} are of other examples than the {len(idx)} labelled training examples: "
            f"there is {example}; give every `idx` one score"
        )
    by_id = np.argsort(of)
    return scores[by_id][np.searchsorted(of[by_id], idx)]
