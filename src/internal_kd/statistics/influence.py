"""What each example adds to a score: the jackknife, from a metric's statistics per example.

For a mean, such as accuracy, this is the example's own value less the mean. For any other metric it is the first-order
share of the example in the score (Efron and Stein 1981), so that the metric can be treated as a mean.
"""

from __future__ import annotations

import numpy as np

from internal_kd.tasks.metrics import METRICS, Metric

# Elements of the largest array of sums held at once.
CHUNK = 4_000_000


def influence(metric: str, labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
    """Return a score and each example's influence on it, (N,), which is 0 on average.

    Args:
        labels: gold classes or values, (N,).
        predicted: predicted classes or values, (N,).
        classes: number of classes; ignored for values.
    """
    chosen = METRICS[metric]
    if chosen.left_out is not None:
        score = float(chosen.value(chosen.statistics(labels, predicted, classes).sum(0)))
        without = chosen.left_out(labels, predicted)
    elif chosen.kind == "classes":
        # Examples with the same label and the same prediction count alike.
        pairs, place, times = np.unique(labels * classes + predicted, return_inverse=True, return_counts=True)
        score, of_pairs = _leave_one_out(chosen, pairs // classes, pairs % classes, times, classes)
        without = of_pairs[place]
    else:
        score, without = _leave_one_out(chosen, labels, predicted, np.ones(len(labels)), classes)
    return score, (len(labels) - 1) * (without.mean() - without)


def _leave_one_out(
    metric: Metric, labels: np.ndarray, predicted: np.ndarray, times: np.ndarray, classes: int
) -> tuple[float, np.ndarray]:
    statistics = metric.statistics(labels, predicted, classes)
    total = np.asarray(times @ statistics)
    rows = max(1, CHUNK // statistics.shape[1])
    without = []
    for start in range(0, len(labels), rows):
        part = statistics[start : start + rows]
        without.append(metric.value(total - (part if isinstance(part, np.ndarray) else part.toarray())))
    return float(metric.value(total)), np.concatenate(without)
