"""Resampling, vectorised: the bootstrap over examples and seeds, and the paired randomisation test.

Both need a metric a few thousand times, so metrics are computed from sufficient statistics: for classes the counts of
correct, predicted and actual examples per class, for values weighted moments (Spearman: of ranks made anew in every
resample). Tests hold them against scikit-learn and scipy. Shapes: R resamples, N examples, K classes, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

Array = np.ndarray

RESAMPLES = 2000
RANDOMISATIONS = 9_999
MORE_RANDOMISATIONS = 290_000
SEED = 20200207
_CHUNK_ELEMENTS = 8_000_000


def class_metric(metric: str, correct: Array, predicted: Array, actual: Array) -> Array:
    """Return a classification metric from counts per class, each (..., K); the result has shape (...).

    As in scikit-learn: ``f1`` is that of class 1, ``macro_f1`` averages over the classes that occur, both are 0 where
    nothing is there to find, Matthews correlation is 0 where it would be 0 / 0. ``f1`` needs two classes.
    """
    total = actual.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "accuracy":
            return correct.sum(-1) / total
        f1 = np.where(predicted + actual > 0, 2 * correct / (predicted + actual), 0.0)
        if metric == "f1":
            return f1[..., 1] if f1.shape[-1] == 2 else np.full(f1.shape[:-1], np.nan)
        if metric == "macro_f1":
            return f1.sum(-1) / ((predicted + actual) > 0).sum(-1)
        covariance = correct.sum(-1) * total - (predicted * actual).sum(-1)
        spread = (total**2 - (predicted**2).sum(-1)) * (total**2 - (actual**2).sum(-1))
        return np.where(spread > 0, covariance / np.sqrt(spread), 0.0)


def value_metric(metric: str, labels: Array, predicted: Array, weights: Array) -> Array:
    """Return a regression metric, (R,), for labels and predictions (N,) and weights (R, N)."""
    if metric == "mse":
        return weights @ (labels - predicted) ** 2 / weights.sum(1)
    if metric == "spearman":
        return _correlation(_ranks(labels, weights), _ranks(predicted, weights), weights)
    x, y = (np.broadcast_to(v - v.mean(), weights.shape) for v in (labels, predicted))
    return _correlation(x, y, weights)


def _ranks(values: Array, weights: Array) -> Array:
    # Mid-ranks of the resample: ties, also those of an example with itself, share their mean rank.
    unique, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(unique)))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2)[:, group]


def _correlation(x: Array, y: Array, weights: Array) -> Array:
    total = weights.sum(1, keepdims=True)
    x = x - (weights * x).sum(1, keepdims=True) / total
    y = y - (weights * y).sum(1, keepdims=True) / total
    spread = (weights * x * x).sum(1) * (weights * y * y).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 1e-18 * total[:, 0], (weights * x * y).sum(1) / np.sqrt(spread), np.nan)


def example_weights(examples: int, resamples: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield how often each example is drawn in each resample, (chunk, N), in chunks that fit in memory."""
    chunk = max(1, min(resamples, _CHUNK_ELEMENTS // examples))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(examples, size=(rows, examples)) + np.arange(rows)[:, None] * examples
        yield np.bincount(drawn.ravel(), minlength=rows * examples).reshape(rows, examples).astype(np.float64)


def bootstrap_runs(
    labels: Array, runs: Sequence[Array], metrics: Sequence[str], classes: int | None, resamples: int = RESAMPLES
) -> dict[str, Array]:
    """Return ``{metric: (runs, R)}`` over examples drawn with replacement, the same draws for every run.

    ``classes`` is None for regression. The same draws make differences between runs paired by example.
    """
    rng = np.random.default_rng(SEED)
    out: dict[str, list[Array]] = {metric: [] for metric in metrics}
    for weights in example_weights(len(labels), resamples, rng):
        if classes is None:
            for metric in metrics:
                out[metric].append(np.stack([value_metric(metric, labels, run, weights) for run in runs]))
            continue
        actual, counts = _class_counts(labels, runs, classes, weights)
        for metric in metrics:
            out[metric].append(np.stack([class_metric(metric, right, said, actual) for right, said in counts]))
    return {metric: np.concatenate(parts, axis=1) for metric, parts in out.items()}


def _class_counts(
    labels: Array, runs: Sequence[Array], classes: int, weights: Array
) -> tuple[Array, list[tuple[Array, Array]]]:
    # Runs side by side make few wide products of many narrow ones; float32 counts examples exactly up to 2^24.
    one_hot = np.eye(classes, dtype=np.float32)
    weights = weights.astype(np.float32)
    together = max(1, 256 // (2 * classes))
    counts: list[tuple[Array, Array]] = []
    for start in range(0, len(runs), together):
        group = runs[start : start + together]
        indicators = [part for run in group for part in (one_hot[labels] * (run == labels)[:, None], one_hot[run])]
        product = (weights @ np.concatenate(indicators, axis=1)).astype(np.float64)
        parts = np.split(product, 2 * len(group), axis=1)
        counts += list(zip(parts[::2], parts[1::2], strict=True))
    return (weights @ one_hot[labels]).astype(np.float64), counts


def mean_over_seeds(scores: Array, rng: np.random.Generator) -> Array:
    """Return the mean over seeds drawn with replacement, for scores (S, R); the result is (R,)."""
    seeds, resamples = scores.shape
    chosen = rng.integers(seeds, size=(seeds, resamples))
    return np.take_along_axis(scores, chosen, axis=0).mean(0)


def interval(resampled: Array) -> tuple[float, float] | None:
    """Return the 95 % percentile interval, or None where most resamples leave the metric undefined."""
    known = resampled[np.isfinite(resampled)]
    if len(known) < len(resampled) / 2:
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def randomisation_p(metric: str, labels: Array, a: Array, b: Array, classes: int | None) -> float:
    """Return the two-sided p of the paired approximate randomisation test for a difference in a metric.

    Under the null hypothesis the two systems' predictions of an example may be exchanged. Where fewer than ten of
    9,999 exchanges reach the observed difference, 290,000 more are drawn, so that a corrected p may fall below 0.001.
    Noreen 1989; Dror et al. 2018.
    """
    if classes is None:
        return _value_randomisation(metric, labels, a, b)
    rng = np.random.default_rng(SEED)
    reached, drawn = _class_exchanges(metric, labels, a, b, classes, RANDOMISATIONS, rng)
    if reached < 10:
        more, count = _class_exchanges(metric, labels, a, b, classes, MORE_RANDOMISATIONS, rng)
        reached, drawn = reached + more, drawn + count
    return (reached + 1) / (drawn + 1)


def _class_exchanges(
    metric: str, labels: Array, a: Array, b: Array, classes: int, draws: int, rng: np.random.Generator
) -> tuple[int, int]:
    # Only where the systems differ does an exchange matter, and examples of one (label, a, b) are alike: the number
    # exchanged among n such is Binomial(n, 1/2), so no example needs a coin of its own.
    one_hot = np.eye(classes)
    counts = (
        [(one_hot[labels] * (run == labels)[:, None]).sum(0) for run in (a, b)],
        [one_hot[run].sum(0) for run in (a, b)],
    )
    actual = one_hot[labels].sum(0)
    different = a != b
    kinds, sizes = np.unique(np.stack([labels, a, b], 1)[different], axis=0, return_counts=True)
    if not len(kinds):
        return draws, draws
    label, of_a, of_b = kinds.T
    correct_change = one_hot[label] * ((of_b == label).astype(float) - (of_a == label))[:, None]
    predicted_change = one_hot[of_b] - one_hot[of_a]
    observed = _difference(metric, counts, actual, 0.0, 0.0)
    reached = 0
    chunk = max(1, _CHUNK_ELEMENTS // (10 * max(len(kinds), classes)))
    for start in range(0, draws, chunk):
        exchanged = rng.binomial(sizes, 0.5, size=(min(chunk, draws - start), len(kinds))).astype(float)
        moved = _difference(metric, counts, actual, exchanged @ correct_change, exchanged @ predicted_change)
        reached += int((np.abs(moved) >= np.abs(observed) - 1e-12).sum())
    return reached, draws


def _difference(
    metric: str,
    counts: tuple[list[Array], list[Array]],
    actual: Array,
    correct: Array | float,
    predicted: Array | float,
) -> Array:
    (right_a, right_b), (said_a, said_b) = counts
    return class_metric(metric, right_a + correct, said_a + predicted, actual) - class_metric(
        metric, right_b - correct, said_b - predicted, actual
    )


def _value_randomisation(metric: str, labels: Array, a: Array, b: Array) -> float:
    # Spearman exchanges the ranks, which are made once: an exchange hardly moves the ranks of the others.
    if metric == "spearman":
        from scipy.stats import rankdata

        labels, a, b = rankdata(labels), rankdata(a), rankdata(b)
    rng = np.random.default_rng(SEED)
    y = labels - labels.mean()
    shift = np.concatenate([a, b]).mean()
    rows_a, rows_b = (np.stack([x - shift, (x - shift) ** 2, (x - shift) * y, (x - labels) ** 2]) for x in (a, b))
    sums_a, sums_b, change = rows_a.sum(1), rows_b.sum(1), rows_b - rows_a
    observed = _moment_metric(metric, sums_a, y) - _moment_metric(metric, sums_b, y)
    if not np.isfinite(observed):
        return float("nan")
    reached = 0
    chunk = max(1, _CHUNK_ELEMENTS // len(labels))
    for start in range(0, RANDOMISATIONS, chunk):
        coins = rng.integers(0, 2, size=(min(chunk, RANDOMISATIONS - start), len(labels))).astype(np.float64)
        moved = coins @ change.T
        difference = _moment_metric(metric, sums_a + moved, y) - _moment_metric(metric, sums_b - moved, y)
        reached += int((np.abs(difference) >= np.abs(observed) - 1e-12).sum())
    return (reached + 1) / (RANDOMISATIONS + 1)


def _moment_metric(metric: str, sums: Array, y: Array) -> Array:
    n = len(y)
    x, xx, xy, squared_error = (sums[..., k] for k in range(4))
    if metric == "mse":
        return squared_error / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return xy / np.sqrt((xx - x**2 / n) * (y @ y))
