"""Numbers as people read them, and the few words that go with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from math import inf

from internal_kd.statistics.estimate import Estimate
from internal_kd.statistics.reading import DASH, ends_text, number, possible, tidy
from internal_kd.tasks.metrics import METRICS

NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "matthews_correlation": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mse": "MSE",
    "span_f1": "span F1",
    "macro_span_f1": "macro span F1",
}


def base_metric(name: str) -> str:
    """Return the metric behind a column of scores: ``accuracy`` for ``accuracy_mismatched``, on another dev set."""
    known = [metric for metric in METRICS if name == metric or name.startswith(f"{metric}_")]
    return max(known, key=len, default=name)


def metric_title(name: str) -> str:
    """Return a metric's name for people."""
    base = base_metric(name)
    ending = f" ({name.removeprefix(base)[1:].replace('_', ' ')})" if name != base else ""
    return NAMES.get(base, base.replace("_", " ")) + ending


def score_title(metrics: Iterable[str], several: str = "main metric") -> str:
    """Return what a figure's axis of scores is called, by default of several metrics too."""
    titles = {metric_title(metric) + (" × 100" if is_share(metric) else "") for metric in metrics}
    return titles.pop() if len(titles) == 1 else several


def is_share(name: str) -> bool:
    """Whether a metric is shown times 100: those that cannot exceed 1."""
    return METRICS[base_metric(name)].bounds[1] <= 1.0


def scale_of(name: str) -> float:
    """Return 100 for metrics shown times 100, else 1."""
    return 100.0 if is_share(name) else 1.0


def is_better(name: str, difference: float) -> bool:
    """Whether a difference in a metric is an improvement."""
    return (difference > 0) == METRICS[base_metric(name)].higher_is_better


def is_known(value: float | None) -> bool:
    """Whether there is a value."""
    return value is not None and not math.isnan(value)


def shown(name: str, value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """Return a score or a difference of scores as people read it, times 100 where that is usual; a dash for none.

    Example:
        >>> shown("accuracy", 0.8125), shown("accuracy", -0.013, sign=True), shown("mse", 0.25)
        ('81.2', '−1.3', '0.250')
    """
    return DASH if value is None else number(value, digits, points=is_share(name), sign=sign)


def interval(name: str, low: float | None, high: float | None, seeds: int, *, difference: bool = False) -> str:
    """Return ``1.2 to 7.0``, cut at the metric's range; an interval wider than that range is not estimable.

    Args:
        name: a column of scores.
        difference: whether it is of a difference of two scores.
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return DASH
    ends = possible(low, high, bounds_of(name, difference=difference), difference=difference)
    return ends_text(ends, seeds, points=is_share(name), sign=difference)


def number_text(value: float, digits: int | None = None, *, sign: bool = False) -> str:
    """Return a number of any size: ``1,203.4``, ``+0.031``."""
    if digits is None:
        digits = 1 if abs(value) >= 1 or value == 0 else 3
    return tidy(f"{value:+,.{digits}f}", sign=sign)


def estimate_text(
    estimate: Estimate,
    bounds: tuple[float, float] = (-inf, inf),
    *,
    sign: bool = False,
    digits: int | None = None,
    unit: str = "",
) -> str:
    """Return an estimate with its interval within bounds: ``+3.2 (−0.3 to +6.6)``, ``57 % (49 to 64 %)``.

    Args:
        bounds: lowest and highest possible value.
        sign: whether it is a difference.
    """
    low, high = estimate.interval()
    value = number_text(estimate.value, digits, sign=sign) + unit
    if math.isnan(low) or low == high:
        return value
    ends = possible(low, high, bounds, difference=sign)
    if ends is None:
        return f"{value} (interval not estimable)"
    return f"{value} ({' to '.join(number_text(end, digits, sign=sign) for end in ends)}{unit})"


def bounds_of(name: str, *, difference: bool = False) -> tuple[float, float]:
    """Return the lowest and highest value that a metric, or a difference of two, can have."""
    low, high = METRICS[base_metric(name)].bounds
    return (low - high, high - low) if difference else (low, high)


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share as ``57 %``, or a dash."""
    return DASH if share is None or math.isnan(share) else f"{number(share, digits)} %"


def with_spread(name: str, mean: float | None, std: float | None) -> str:
    """Return ``91.4 ± 0.2``."""
    spread = f" ± {shown(name, std)}" if is_known(std) and is_known(mean) else ""
    return shown(name, mean) + spread


def count(number: int, noun: str) -> str:
    """Return ``1 seed``, ``2 seeds``, ``2,400 examples``."""
    plural = noun if number == 1 else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def joined(names: Iterable[str], last: str = "and") -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    listed = list(names)
    return f" {last} ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def millions(parameters: int | None) -> str:
    """Return a number of parameters as ``43.1M``; below a million in thousands."""
    if parameters is None:
        return DASH
    return f"{parameters / 1e6:.1f}M" if parameters >= 1e6 else f"{parameters / 1e3:.0f}k"


def duration(seconds: float | None) -> str:
    """Return ``45 s``, ``2 min 20 s``, ``3 h 5 min``."""
    if seconds is None or math.isnan(seconds):
        return DASH
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole % 3600 // 60 else f"{whole // 3600} h"


def seeds_of(finished: int, planned: int) -> str:
    """Return ``5`` if every seed is finished and ``3 of 5`` if some are missing."""
    return str(planned) if finished == planned else f"{finished} of {planned}"


def axis_title(axis: str) -> str:
    """Return a varied key for people."""
    known = {"learner.layers": "layers", "select.keep": "training examples"}
    return known.get(axis, axis.rpartition(".")[2].replace("_", " "))


def numbers(values: Sequence[str]) -> list[float] | None:
    """Return texts as numbers, None unless all are."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None
