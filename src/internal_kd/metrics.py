"""The tasks' metrics, from predictions: scikit-learn's and scipy's, in natural units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


def _f1(labels: Array, predicted: Array) -> float:
    from sklearn.metrics import f1_score

    if max(labels.max(), predicted.max()) > 1:
        return math.nan  # the F1 of a positive class needs exactly two classes; macro_f1 takes more
    return float(f1_score(labels, predicted, zero_division=0))


def _macro_f1(labels: Array, predicted: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def _accuracy(labels: Array, predicted: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predicted))


def _matthews(labels: Array, predicted: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predicted))


def _pearson(labels: Array, predicted: Array) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(labels, predicted).statistic) if len(labels) > 1 else math.nan


def _spearman(labels: Array, predicted: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predicted).statistic)


def _mse(labels: Array, predicted: Array) -> float:
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(labels, predicted))


_FUNCTIONS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "mse": _mse,
}


def predicted_values(frame: pd.DataFrame, regression: bool) -> Array:
    """Return the predicted class of every row (the highest logit), or the predicted value, shape (examples,)."""
    logits = frame[[name for name in frame.columns if name.startswith("logit_")]].to_numpy(float)
    return logits[:, 0] if regression else logits.argmax(axis=1)


def score_predictions(frame: pd.DataFrame, metrics: Sequence[str], regression: bool) -> dict[str, float]:
    """Return ``{metric: value}`` in natural units for predictions with columns label, logit_0, ...

    ``f1`` counts class 1 as positive. A correlation with constant predictions is not defined and comes back as NaN;
    Matthews correlation is 0 there, as in scikit-learn.

    Raises:
        UserError: a metric is unknown.
    """
    labels = frame["label"].to_numpy(float if regression else int)
    predicted = predicted_values(frame, regression)
    scores = {}
    for metric in metrics:
        if metric not in _FUNCTIONS:
            raise UserError(f"metric {metric!r} is unknown; choose one of {', '.join(_FUNCTIONS)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant predictions: said in the tables instead
            scores[metric] = _FUNCTIONS[metric](labels, predicted)
    return scores
