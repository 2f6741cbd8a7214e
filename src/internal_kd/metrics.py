"""The tasks' metrics, from predictions: scikit-learn's and scipy's, in natural units.

Each is a function of labels and predicted classes, or values for regression, both of shape (examples,), and a line in
``METRICS`` of ``tasks.py``; docs/extending.md says what else a new one needs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.errors import UserError
from internal_kd.tasks import METRICS

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


def f1(labels: Array, predicted: Array) -> float:
    """F1 of class 1; NaN where there are more than two classes, of which macro_f1 takes any number."""
    from sklearn.metrics import f1_score

    if max(labels.max(), predicted.max()) > 1:
        return math.nan
    return float(f1_score(labels, predicted, zero_division=0))


def macro_f1(labels: Array, predicted: Array) -> float:
    """Mean of the classes' F1."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def accuracy(labels: Array, predicted: Array) -> float:
    """Share of examples that are right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predicted))


def matthews_correlation(labels: Array, predicted: Array) -> float:
    """Matthews correlation; 0 for constant predictions."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predicted))


def pearson(labels: Array, predicted: Array) -> float:
    """Pearson correlation; NaN for constant predictions."""
    from scipy.stats import pearsonr

    return float(pearsonr(labels, predicted).statistic) if len(labels) > 1 else math.nan


def spearman(labels: Array, predicted: Array) -> float:
    """Spearman rank correlation; NaN for constant predictions."""
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predicted).statistic)


def mse(labels: Array, predicted: Array) -> float:
    """Mean squared error."""
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(labels, predicted))


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
        if metric not in METRICS:
            raise UserError(f"metric {metric!r} is unknown; choose one of {', '.join(METRICS)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant predictions: said in the tables instead
            scores[metric] = METRICS[metric].resolve()(labels, predicted)
    return scores
