"""The paired approximate randomisation test of a difference in a metric (Noreen 1989).

Shapes: N examples, K classes, D draws.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from internal_kd.analysis.resampling import CHUNK_ELEMENTS, SEED, class_metric

Array = np.ndarray

RANDOMISATIONS = 9_999
MORE_RANDOMISATIONS = 290_000

# Of so many random exchanges, how many reach the observed difference.
Exchanges = Callable[[int, np.random.Generator], int]


def randomisation_p(metric: str, labels: Array, a: Array, b: Array, classes: int | None) -> float:
    """Return the two-sided p of the paired approximate randomisation test for a difference in a metric.

    Under the null hypothesis the two systems' predictions of an example may be exchanged. Where fewer than ten of
    9,999 exchanges reach the observed difference, 290,000 more are drawn, so that a corrected p may fall below 0.001.
    Noreen 1989; Dror et al. 2018.
    """
    exchanges = _class_exchanges(metric, labels, a, b, classes) if classes else _value_exchanges(metric, labels, a, b)
    if exchanges is None:
        return float("nan")
    rng = np.random.default_rng(SEED)
    reached, drawn = exchanges(RANDOMISATIONS, rng), RANDOMISATIONS
    if reached < 10:
        reached, drawn = reached + exchanges(MORE_RANDOMISATIONS, rng), drawn + MORE_RANDOMISATIONS
    return (reached + 1) / (drawn + 1)


def _class_exchanges(metric: str, labels: Array, a: Array, b: Array, classes: int) -> Exchanges:
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
        return lambda draws, rng: draws
    label, of_a, of_b = kinds.T
    correct_change = one_hot[label] * ((of_b == label).astype(float) - (of_a == label))[:, None]
    predicted_change = one_hot[of_b] - one_hot[of_a]
    observed = _difference(metric, counts, actual, 0.0, 0.0)

    def reached(draws: int, rng: np.random.Generator) -> int:
        count, chunk = 0, max(1, CHUNK_ELEMENTS // (10 * max(len(kinds), classes)))
        for start in range(0, draws, chunk):
            exchanged = rng.binomial(sizes, 0.5, size=(min(chunk, draws - start), len(kinds))).astype(float)
            moved = _difference(metric, counts, actual, exchanged @ correct_change, exchanged @ predicted_change)
            count += int((np.abs(moved) >= np.abs(observed) - 1e-12).sum())
        return count

    return reached


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


def _value_exchanges(metric: str, labels: Array, a: Array, b: Array) -> Exchanges | None:
    # Spearman exchanges the ranks, which are made once: an exchange hardly moves the ranks of the others.
    if metric == "spearman":
        from scipy.stats import rankdata

        labels, a, b = rankdata(labels), rankdata(a), rankdata(b)
    y = labels - labels.mean()
    shift = np.concatenate([a, b]).mean()
    rows_a, rows_b = (np.stack([x - shift, (x - shift) ** 2, (x - shift) * y, (x - labels) ** 2]) for x in (a, b))
    sums_a, sums_b = rows_a.sum(1), rows_b.sum(1)
    observed = _moment_metric(metric, sums_a, y) - _moment_metric(metric, sums_b, y)
    if not np.isfinite(observed):
        return None
    tables = _sums_of_eight((rows_b - rows_a).T)

    def reached(draws: int, rng: np.random.Generator) -> int:
        count, chunk = 0, max(1, CHUNK_ELEMENTS // (8 * len(tables)))
        for start in range(0, draws, chunk):
            moved = np.zeros((min(chunk, draws - start), tables.shape[2]))
            coins = rng.integers(256, size=(len(tables), len(moved)), dtype=np.uint8)
            for table, eight in zip(tables, coins, strict=True):
                moved += table.take(eight, axis=0)
            difference = _moment_metric(metric, sums_a + moved, y) - _moment_metric(metric, sums_b - moved, y)
            count += int((np.abs(difference) >= np.abs(observed) - 1e-12).sum())
        return count

    return reached


def _sums_of_eight(changes: Array) -> Array:
    """Return the sums of all subsets of every eight examples, (N / 8, 256, C), for changes (N, C).

    A random byte is then an exchange of eight examples at once, ten times as fast as a coin for each.
    """
    subsets = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(float)
    padded = np.concatenate([changes, np.zeros((-len(changes) % 8, changes.shape[1]))])
    return subsets @ padded.reshape(-1, 8, changes.shape[1])


def _moment_metric(metric: str, sums: Array, y: Array) -> Array:
    n = len(y)
    x, xx, xy, squared_error = (sums[..., k] for k in range(4))
    if metric == "mse":
        return squared_error / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return xy / np.sqrt((xx - x**2 / n) * (y @ y))
