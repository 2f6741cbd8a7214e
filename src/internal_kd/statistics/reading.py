"""A comparison in words: its verdict, its interval, and what would decide it; numbers as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internal_kd.statistics.compare import Lead, Scope
    from internal_kd.statistics.means import Mean

BETTER, WORSE, UNDECIDED, ONE_SEED, UNDEFINED = "better", "worse", "undecided", "one seed", "not defined"
# The two questions, as results and tables call them.
SCOPES: dict[Scope, str] = {"dev": "dev set", "new": "new examples"}
DASH = "–"


def reading(result: Lead, scope: Scope = "new", p: float | None = None, alpha: float = 0.05) -> str:
    """Return the verdict on a lead: better, worse, equal within the margin, undecided, one seed, or not defined.

    Args:
        result: from ``compare``, ``lead`` or ``pool``.
        scope: ``"dev"`` for this dev set, ``"new"`` for new examples.
        p: the p that decides, corrected for its family (``holm``); by default the result's own.
        alpha: below this, p shows a difference.

    Example:
        >>> reading(compare(labels, baseline, ours), p=0.02)
        'better'
    """
    estimate = result.estimate(scope)
    decided = estimate.p if p is None else p
    if math.isnan(estimate.value):
        return UNDEFINED
    if result.one_seed:
        return ONE_SEED
    if math.isnan(decided):
        return UNDEFINED
    if decided < alpha:
        return BETTER if (estimate.value > 0) == result.higher_is_better else WORSE
    return equal_within(result) if result.equal(scope, alpha) else UNDECIDED


def equal_within(result: Lead) -> str:
    """Return the verdict of equality, such as ``"equal within 1 point"``."""
    if not _in_points(result):
        return f"equal within {result.margin:g}"
    points = 100 * result.margin
    return f"equal within {points:g} point{'' if points == 1 else 's'}"


def what_would_decide(result: Lead, scope: Scope = "new", alpha: float = 0.05) -> str:
    """Return how many seeds would bring p below alpha if the estimates stayed, or that more seeds would not help."""
    if result.one_seed:
        return "a second seed of each method is needed"
    needed = result.seeds_needed(scope, alpha)
    return "more seeds would not help" if needed is None else f"about {needed} seeds of each method would do"


def number(value: float, digits: int = 1, *, points: bool = True, sign: bool = False) -> str:
    """Return a number with so many digits, in points times 100, else with two digits more; a dash for none.

    Example:
        >>> number(-0.013, sign=True), number(-0.00004), number(0.25, points=False)
        ('−1.3', '0.0', '0.250')
    """
    if math.isnan(value):
        return DASH
    return tidy(f"{100 * value:+.{digits}f}" if points else f"{value:+.{digits + 2}f}", sign=sign)


def tidy(text: str, *, sign: bool) -> str:
    """Return a number's text with a typographic minus, the plus only if asked for, and no sign of zero."""
    if not text.strip("+-0.,"):
        return text.lstrip("+-")
    return (text if sign else text.removeprefix("+")).replace("-", "−")


def possible(
    low: float, high: float, bounds: tuple[float, float], *, difference: bool = False
) -> tuple[float, float] | None:
    """Return an interval cut at its bounds; None if it is unknown, or wider than the range of the metric.

    Args:
        bounds: lowest and highest possible value, of a difference twice as far apart as a metric's.
        difference: whether it is of a difference.
    """
    lowest, highest = bounds
    if math.isnan(low) or math.isnan(high) or high - low > (highest - lowest) / (2 if difference else 1):
        return None
    return max(low, lowest), min(high, highest)


def bounded_interval(result: Lead | Mean, scope: Scope = "new") -> tuple[float, float] | None:
    """Return an interval cut to what is possible; None if it is not defined or wider than the metric's range."""
    estimate = result.dev if scope == "dev" else result.new
    return possible(*estimate.interval(result.confidence), result.bounds, difference=hasattr(result, "difference"))


def interval_text(result: Lead | Mean, scope: Scope = "new", digits: int = 1) -> str:
    """Return an interval in points (in the metric's units if it has no bounds), or why there is none.

    Example:
        >>> interval_text(compare(labels, baseline, ours))
        '−0.3 to +6.6'
        >>> interval_text(compare(labels, baseline[:2], ours[:2]))
        'not estimable from 2 seeds'
    """
    if math.isnan(result.new.value):
        return UNDEFINED
    sign = hasattr(result, "difference")
    return ends_text(bounded_interval(result, scope), result.fewest_seeds, digits, points=_in_points(result), sign=sign)


def ends_text(
    ends: tuple[float, float] | None, seeds: int, digits: int = 1, *, points: bool = True, sign: bool = False
) -> str:
    """Return ``1.2 to 7.0``, or that these seeds allow no interval."""
    if ends is None:
        return f"not estimable from {seeds} seed{'' if seeds == 1 else 's'}"
    return " to ".join(number(end, digits, points=points, sign=sign) for end in ends)


def p_text(p: float | None) -> str:
    """Return a p value, such as ``"0.043"`` or ``"< 0.001"``; a dash for none."""
    if p is None or math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def described(result: Lead) -> str:
    """Return a result in one line: the lead, and for both questions interval, p and verdict."""
    if math.isnan(result.difference):
        return UNDEFINED
    points = _in_points(result)
    asked = [
        f"{name} {interval_text(result, scope)}, p {p_text(result.estimate(scope).p)}: {reading(result, scope)}"
        for scope, name in SCOPES.items()
    ]
    return f"{number(result.difference, points=points, sign=True)}{' points' * points}; {'; '.join(asked)}"


def _in_points(result: Lead | Mean) -> bool:
    return all(math.isfinite(bound) for bound in result.bounds)
