"""Resampling, vectorised: the bootstrap over examples, and intervals over examples and seeds.

It needs a metric a few thousand times, so metrics are computed from sufficient statistics: for classes the counts of
correct, predicted and actual examples per class, for values weighted moments (Spearman: of ranks made anew in every
resample). Tests hold them against scikit-learn and scipy. Shapes: R resamples, N examples, K classes, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

RESAMPLES = 2000
SEED = 20200207
CHUNK_ELEMENTS = 8_000_000


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
    chunk = max(1, min(resamples, CHUNK_ELEMENTS // examples))
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


@dataclass(frozen=True)
class SeedMean:
    """A mean over S seeds, resampled, (R,) each: over examples and seeds, and over examples alone.

    ``resampled`` has the mean's variance under other examples and other seeds: that of examples, plus the seeds' sample
    variance by S, less what both of these hold of the seeds' own errors on these examples. ``unreduced`` is without the
    last step, for ``degrees`` = S - 1 belongs to the sample variance as it is. One seed says nothing of others: then
    all three are the same.

    ``of_seeds`` is the variance of one seed's score on these examples, ``own`` the part of it that other examples would
    give anew: what a seed gets right by itself. Both are 0 with one seed.
    """

    resampled: Array
    over_examples: Array
    unreduced: Array
    degrees: int
    of_seeds: float = 0.0
    own: float = 0.0


def seed_mean(scores: Array, rng: np.random.Generator) -> SeedMean:
    """Return the mean over seeds for resampled scores (S, R); equal ``rng`` keep several quantities joint.

    A bootstrap of S seeds would make their variance too small by (S - 1) / S, so the seeds' share is drawn as normal.
    """
    seeds, resamples = scores.shape
    over_examples = scores.mean(0)
    if seeds == 1:
        return SeedMean(over_examples, over_examples, over_examples, 0)
    known = scores[:, np.isfinite(over_examples)]
    of_seed = known.mean(1, keepdims=True) if known.size else np.full((seeds, 1), np.nan)
    deviations = of_seed - of_seed.mean()
    noise = (rng.standard_normal((seeds, resamples)) * deviations).sum(0) / np.sqrt(seeds * (seeds - 1))
    observed = (deviations**2).sum() / (seeds - 1)
    own = ((known - known.mean(0) - deviations) ** 2).sum() / max(1, known.shape[1]) / (seeds - 1)
    kept = np.sqrt(max(0.0, 1 - own / observed)) if observed > 0 else 0.0
    of_seeds, own = float(max(observed, own)), float(own)
    return SeedMean(over_examples + kept * noise, over_examples, over_examples + noise, seeds - 1, of_seeds, own)


def interval(resampled: Array, widening: float = 1.0) -> tuple[float, float] | None:
    """Return the 95 % percentile interval, or None where most resamples leave the metric undefined.

    ``widening`` stretches it about the median.
    """
    known = resampled[np.isfinite(resampled)]
    if len(known) < len(resampled) / 2:
        return None
    low, median, high = np.quantile(known, [0.025, 0.5, 0.975])
    return float(median + widening * (low - median)), float(median + widening * (high - median))


def joint_interval(combine: Callable[..., Array], means: Sequence[SeedMean]) -> tuple[float, float] | None:
    """Return the 95 % interval of what ``combine`` makes of resampled means, each (R,), widened for few seeds.

    The seeds' variances are themselves estimates: the quantiles are Student's t with Satterthwaite's degrees of freedom
    instead of the normal's. Satterthwaite 1946; Welch 1947.
    """
    from scipy.special import ndtri, stdtrit

    whole = combine(*(mean.resampled for mean in means))
    total, shares = variance(whole), []
    for at, mean in enumerate(means):
        if mean.degrees:
            ways = [[m.resampled for m in means] for _ in range(2)]
            ways[0][at], ways[1][at] = mean.unreduced, mean.over_examples
            shares.append((variance(combine(*ways[0]) - combine(*ways[1])), mean.degrees))
    below = sum(share**2 / degrees for share, degrees in shares)
    if not below > 0:
        return interval(whole)
    degrees = max(total**2 / below, min(degrees for _, degrees in shares))
    return interval(whole, float(stdtrit(degrees, 0.975) / ndtri(0.975)))


def difference_interval(a: SeedMean, b: SeedMean) -> tuple[float, float] | None:
    """Return the 95 % interval of the difference of two resampled means; over examples alone if a side has one seed."""
    if not (a.degrees and b.degrees):
        # One seed says nothing of others, and the other side's would make the interval neither one thing nor another.
        a, b = (SeedMean(one.over_examples, one.over_examples, one.over_examples, 0) for one in (a, b))
    return joint_interval(np.subtract, [a, b])


def variance(values: Array) -> float:
    """Return the variance of what is defined."""
    known = values[np.isfinite(values)]
    return float(known.var()) if len(known) else 0.0
