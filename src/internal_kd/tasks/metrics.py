"""The metrics: each defined once, by what it counts of every example and what it makes of the sums.

A score is ``value(statistics.sum(0))``, a bootstrap ``value(weights @ statistics)``, leaving example i out
``value(statistics.sum(0) - statistics[i])``. Values are in natural units: 0.83, not 83. Importing this module imports
no numpy.

Shapes: N examples, K statistics, C classes. Of a task of tags an example is a sentence and labels are (N, longest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from internal_kd.errors import UserError
from internal_kd.registry import Registry
from internal_kd.tasks.tags import span_counts

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray"
# (N, K): an array, or scipy's csr_array where most counts are 0.
Statistics: TypeAlias = Any


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        kind: the kind of task that it scores, a key of ``KINDS``.
        statistics: from labels (N,), predicted classes or values (N,), and the number of classes to what is counted of
            every example, (N, K) of float64: an array, or a sparse ``csr_array`` if K grows with the classes.
        value: from sums over examples (..., K) to the metric (...); NaN where it is not defined.
        bounds: lowest and highest possible value.
        higher_is_better: False for errors.
        left_out: from labels (N,) and predictions (N,) to the metric without each example, (N,); only for a metric
            that sums cannot express, because it depends on ranks.

    Example:
        >>> def errors(labels, predicted, classes):
        ...     return np.stack([labels != predicted, np.ones(len(labels))], axis=1)
        >>> METRICS.add("error", Metric("classes", errors, lambda s: s[..., 0] / s[..., 1], higher_is_better=False))
    """

    kind: str
    statistics: Callable[[Array, Array, int], Statistics]
    value: Callable[[Array], Array]
    bounds: tuple[float, float] = (0.0, 1.0)
    higher_is_better: bool = True
    left_out: Callable[[Array, Array], Array] | None = None


def score(labels: Array, predicted: Array, metric: str, classes: int | None = None) -> float:
    """Return a metric in natural units.

    Args:
        labels: gold classes or values, (N,).
        predicted: predicted classes or values, (N,).
        metric: a key of ``METRICS``.
        classes: number of classes; by default the highest that occurs and one, at least two. Ignored for values.

    Raises:
        UserError: the metric is unknown, or the arrays are not what it scores.

    Example:
        >>> score([0, 1, 1, 0], [0, 1, 0, 0], "accuracy")
        0.75
    """
    import numpy as np

    labels, predicted = checked(metric, labels, predicted)
    chosen = METRICS[metric]
    counted = chosen.statistics(labels, predicted, classes_of(metric, labels, predicted, given=classes))
    return float(chosen.value(np.asarray(counted.sum(0))))


def classes_of(metric: str, *answers: Array, given: int | None = None) -> int:
    """Return the number of classes of labels and predictions: the highest that occurs and one, at least two.

    Raises:
        UserError: the number given is smaller than that.
    """
    occurring = max(1 + int(array.max()) for array in answers)
    if given and given < occurring and METRICS[metric].kind != "values":
        raise UserError(f"{metric}: classes={given}, but class {occurring - 1} occurs; give {occurring} or more")
    return given or max(2, occurring)


def check_metrics(names: Iterable[str], kind: str) -> None:
    """Refuse a metric that is unknown, or of another kind of task, by UserError."""
    for name in names:
        if METRICS[name].kind != kind:
            raise UserError(f"{name!r} does not suit a task of {kind}")


def checked(metric: str, labels: Any, predicted: Any) -> tuple[Array, Array]:
    """Return labels (N, ...) and predictions (..., N, ...) as the arrays that a metric's statistics take.

    Raises:
        UserError: the metric is unknown, there are no examples, or the arrays hold something that it cannot score.
    """
    import numpy as np

    kind = METRICS[metric].kind
    try:
        arrays = {"labels": np.asarray(labels), "predictions": np.asarray(predicted)}
    except ValueError:
        raise UserError(f"{metric}: labels and predictions are lists of unequal lengths; give arrays") from None
    if arrays["labels"].ndim != (2 if kind == "tags" else 1):
        ours = "sentences of tags, (sentences, longest)" if kind == "tags" else "(examples,); tags have span_f1"
        raise UserError(f"{metric}: labels of shape {arrays['labels'].shape}; give {ours}")
    for what, array in arrays.items():
        if not array.size:
            raise UserError(f"{metric}: the {what} are empty")
        if array.dtype.kind not in "biuf":
            raise UserError(f"{metric}: the {what} are not numbers but {array.dtype}")
        if not np.isfinite(array).all():
            raise UserError(f"{metric}: the {what} contain NaN or infinity")
        if kind == "values":
            arrays[what] = array.astype(float)
            continue
        if array.dtype.kind == "f" and (array % 1).any():
            raise UserError(f"{metric}: the {what} contain {array[array % 1 != 0][0]:g}, which is not a class number")
        arrays[what] = array.astype(np.int64)
        if kind == "classes" and array.min() < 0:
            raise UserError(f"{metric}: the {what} contain {array.min():g}; class numbers start at 0")
    labels, predicted = arrays["labels"], arrays["predictions"]
    if predicted.shape[-labels.ndim :] != labels.shape:
        raise UserError(f"{metric}: labels of shape {labels.shape} and predictions of shape {predicted.shape}")
    return labels, predicted


def _right(labels: Array, predicted: Array, classes: int) -> Statistics:
    import numpy as np

    return np.stack([labels == predicted, np.ones(len(labels))], axis=1).astype(float)


def _share(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _positives(labels: Array, predicted: Array, classes: int) -> Statistics:
    import numpy as np

    if classes > 2:
        return np.full((len(labels), 2), np.nan)
    gold, found = labels == 1, predicted == 1
    return np.stack([gold & found, gold.astype(float) + found], axis=1).astype(float)


def _f1(sums: Array) -> Array:
    import numpy as np

    hits, gold_and_found = sums[..., 0], sums[..., 1]
    # 0 where class 1 neither occurs nor is predicted, as in scikit-learn with zero_division=0.
    return np.where(gold_and_found == 0, 0.0, 2 * hits / np.where(gold_and_found == 0, 1.0, gold_and_found))


def _class_counts(labels: Array, predicted: Array, classes: int) -> Statistics:
    # Columns: right (C), predicted (C), gold (C); sparse, since thousands of classes occur.
    import numpy as np
    from scipy.sparse import csr_array

    rows = np.arange(len(labels))
    right = labels == predicted
    at_row = np.concatenate([rows[right], rows, rows])
    at_column = np.concatenate([labels[right], classes + predicted, 2 * classes + labels]).astype(np.int64)
    return csr_array((np.ones(len(at_row)), (at_row, at_column)), shape=(len(labels), 3 * classes))


def _thirds(sums: Array) -> tuple[Array, Array, Array]:
    import numpy as np

    right, predicted, gold = np.split(np.asarray(sums), 3, axis=-1)
    return right, predicted, gold


def _macro_f1(sums: Array) -> Array:
    import numpy as np

    right, predicted, gold = _thirds(sums)
    either = predicted + gold
    f1 = 2 * right / np.where(either > 0, either, 1.0)
    return f1.sum(-1) / (either > 0).sum(-1)


def _matthews(sums: Array) -> Array:
    # Gorodkin 2004; 0 for constant predictions or labels, as in scikit-learn.
    import numpy as np

    right, predicted, gold = _thirds(sums)
    total = gold.sum(-1)
    covariance = right.sum(-1) * total - (predicted * gold).sum(-1)
    spread = (total**2 - (predicted**2).sum(-1)) * (total**2 - (gold**2).sum(-1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)


def _moments(labels: Array, predicted: Array, classes: int) -> Statistics:
    # About the medians: a correlation does not depend on the origin, and a constant becomes exactly 0.
    import numpy as np

    y, x = (values - np.median(values) for values in (labels.astype(float), predicted.astype(float)))
    return np.stack([np.ones(len(y)), x, y, x * x, y * y, x * y], axis=1)


def _correlation(sums: Array) -> Array:
    import numpy as np

    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_x, of_y = xx - x * x / n, yy - y * y / n
        # What rounding leaves of a constant is no spread.
        varies = (of_x > 1e-10 * xx) & (of_y > 1e-10 * yy)
        return np.where(varies, (xy - x * y / n) / np.sqrt(of_x * of_y), np.nan)


def _ranks(labels: Array, predicted: Array, classes: int) -> Statistics:
    from scipy.stats import rankdata

    return _moments(rankdata(labels), rankdata(predicted), classes)


def _spearman_left_out(labels: Array, predicted: Array) -> Array:
    # Without example i, every rank above its own falls by 1 and every equal one by 1/2: by (1 + s) / 2, where s is the
    # sign of the distance. Ranks are taken about their mean, so that they sum to 0.
    import numpy as np
    from scipy.stats import rankdata

    n = len(labels)
    x, y = (rankdata(values) - (n + 1) / 2 for values in (predicted, labels))
    out = np.empty(n)
    chunk = max(1, 1_000_000 // n)
    for start in range(0, n, chunk):
        own_x, own_y = x[start : start + chunk], y[start : start + chunk]
        s, t = np.sign(x - own_x[:, None]), np.sign(y - own_y[:, None])
        above_x, above_y = s.sum(1), t.sum(1)
        without = [
            np.full(len(own_x), n - 1.0),
            -(n + above_x) / 2 - own_x + 0.5,
            -(n + above_y) / 2 - own_y + 0.5,
            x @ x - s @ x + (n + 2 * above_x + np.einsum("ij,ij->i", s, s)) / 4 - (own_x - 0.5) ** 2,
            y @ y - t @ y + (n + 2 * above_y + np.einsum("ij,ij->i", t, t)) / 4 - (own_y - 0.5) ** 2,
            x @ y
            - (t @ x + s @ y) / 2
            + (n + above_x + above_y + np.einsum("ij,ij->i", s, t)) / 4
            - (own_x - 0.5) * (own_y - 0.5),
        ]
        out[start : start + chunk] = _correlation(np.stack(without, axis=1))
    return out


def _squared_errors(labels: Array, predicted: Array, classes: int) -> Statistics:
    import numpy as np

    return np.stack([(labels - predicted) ** 2, np.ones(len(labels))], axis=1).astype(float)


def _accurate_tokens(labels: Array, predicted: Array, classes: int) -> Statistics:
    import numpy as np

    real = labels >= 0
    return np.stack([((labels == predicted) & real).sum(1), real.sum(1)], axis=1).astype(float)


def _span_share(*of: int) -> Callable[[Array], Array]:
    """The share of right entities, over all types, among those of some columns: 1 predicted, 2 gold."""

    def value(sums: Array) -> Array:
        import numpy as np

        parts = [part.sum(-1) for part in _thirds(sums)]
        below = np.asarray(sum(parts[column] for column in of))
        # 0 where there is none, as in seqeval.
        return len(of) * parts[0] / np.where(below > 0, below, 1.0)

    return value


def _macro_span_f1(sums: Array) -> Array:
    import numpy as np

    right, predicted, gold = _thirds(sums)
    either = predicted + gold
    f1 = 2 * right / np.where(either > 0, either, 1.0)
    return f1.sum(-1) / np.maximum((either > 0).sum(-1), 1)


_BOTH_SIGNS = (-1.0, 1.0)

METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "accuracy": Metric("classes", _right, _share),
        "f1": Metric("classes", _positives, _f1),
        "macro_f1": Metric("classes", _class_counts, _macro_f1),
        "matthews_correlation": Metric("classes", _class_counts, _matthews, bounds=_BOTH_SIGNS),
        "pearson": Metric("values", _moments, _correlation, bounds=_BOTH_SIGNS),
        "spearman": Metric("values", _ranks, _correlation, bounds=_BOTH_SIGNS, left_out=_spearman_left_out),
        "mse": Metric("values", _squared_errors, _share, bounds=(0.0, inf), higher_is_better=False),
        # Examples are sentences: labels and predictions are matrices (N, longest), padded with -1.
        "span_f1": Metric("tags", span_counts, _span_share(1, 2)),
        "macro_span_f1": Metric("tags", span_counts, _macro_span_f1),
        "span_precision": Metric("tags", span_counts, _span_share(1)),
        "span_recall": Metric("tags", span_counts, _span_share(2)),
        "token_accuracy": Metric("tags", _accurate_tokens, _share),
    },
)
