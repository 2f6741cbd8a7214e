"""Numbers as people read them, and the few words that go with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from internal_kd.tasks.metrics import METRICS

if TYPE_CHECKING:
    from internal_kd.statistics import Estimate

DASH = "–"
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
    if value is None or math.isnan(value):
        return DASH
    text = f"{100 * value:.{digits}f}" if is_share(name) else f"{value:.{digits + 2}f}"
    text = text.lstrip("-") if not text.strip("-0.") else text
    plus = "+" if sign and value > 0 and text.strip("0.") else ""
    return plus + text.replace("-", "−")


def interval(name: str, low: float | None, high: float | None, seeds: int, *, difference: bool = False) -> str:
    """Return ``1.2 to 7.0``, cut at the metric's range; an interval as wide as that range is not estimable.

    Args:
        name: a column of scores.
        difference: whether it is of a difference of two scores.
    """
    if not (is_known(low) and is_known(high)):
        return DASH
    assert low is not None and high is not None
    least, most = bounds_of(name, difference=difference)
    if high - low >= METRICS[base_metric(name)].bounds[1] - METRICS[base_metric(name)].bounds[0]:
        return f"not estimable from {count(seeds, 'seed')}"
    low, high = max(low, least), min(high, most)
    return f"{shown(name, low, sign=difference)} to {shown(name, high, sign=difference)}"


def number_text(value: float, *, sign: bool = False) -> str:
    """Return a number of any size: ``1,203.4``, ``+0.031``."""
    digits = 1 if abs(value) >= 1 or value == 0 else 3
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return (text.lstrip("+-") if not text.strip("+-0.,") else text).replace("-", "−")


def estimate_text(estimate: Estimate, *, sign: bool = False) -> str:
    """Return an estimate with its interval: ``+3.2 (−0.3 to +6.6)``."""
    low, high = estimate.interval()
    value = number_text(estimate.value, sign=sign)
    if math.isnan(low) or low == high:
        return value
    return f"{value} ({number_text(low, sign=sign)} to {number_text(high, sign=sign)})"


def bounds_of(name: str, *, difference: bool = False) -> tuple[float, float]:
    """Return the lowest and highest value that a metric, or a difference of two, can have."""
    low, high = METRICS[base_metric(name)].bounds
    return (low - high, high - low) if difference else (low, high)


def p_text(p: float | None) -> str:
    """Return a p value."""
    if p is None or math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share as ``57 %``, or a dash."""
    return DASH if share is None or math.isnan(share) else f"{100 * share:.{digits}f} %"


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
