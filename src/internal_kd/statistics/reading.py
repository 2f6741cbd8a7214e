"""A comparison in words: its verdict, its interval, and what would decide it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internal_kd.statistics.compare import Lead, Scope
    from internal_kd.statistics.means import Mean

BETTER, WORSE, UNDECIDED, ONE_SEED, UNDEFINED = "better", "worse", "undecided", "one seed", "not defined"
SCOPES: dict[Scope, str] = {"dev": "on this dev set", "new": "on new examples too"}


def reading(result: Lead, scope: Scope = "new", p: float | None = None, alpha: float = 0.05) -> str:
    """Return the verdict on a lead: better, worse, equal within the margin, undecided, one seed, or not defined.

    Args:
        result: from ``compare``, ``lead`` or ``pool``.
        scope: ``"dev"`` for this dev set, ``"new"`` for new examples too.
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


def bounded_interval(result: Lead | Mean, scope: Scope = "new") -> tuple[float, float] | None:
    """Return an interval cut to what is possible; None if it is not defined or wider than all that is possible."""
    estimate = result.dev if scope == "dev" else result.new
    low, high = estimate.interval(result.confidence)
    lowest, highest = result.bounds
    if math.isnan(low) or math.isnan(high) or high - low > highest - lowest:
        return None
    return max(low, lowest), min(high, highest)


def interval_text(result: Lead | Mean, scope: Scope = "new", digits: int = 1) -> str:
    """Return an interval in points (in the metric's units if it has no bounds), or why there is none.

    Example:
        >>> interval_text(compare(labels, baseline, ours))
        '-0.3 to +6.6'
        >>> interval_text(compare(labels, baseline[:2], ours[:2]))
        'not estimable from 2 seeds'
    """
    bounds = bounded_interval(result, scope)
    if math.isnan(result.new.value):
        return UNDEFINED
    if bounds is None:
        seeds = result.fewest_seeds
        return f"not estimable from {seeds} seed{'' if seeds == 1 else 's'}"
    sign = "+" if hasattr(result, "difference") else ""
    factor = 100 if _in_points(result) else 1
    return " to ".join(f"{factor * end:{sign}.{digits}f}" for end in bounds)


def p_text(p: float) -> str:
    """Return a p to the digits that matter, such as ``"p 0.07"`` or ``"p < 0.001"``."""
    if math.isnan(p):
        return "no p"
    if p < 0.001:
        return "p < 0.001"
    return f"p {p:.3f}" if p < 0.01 else f"p {p:.2f}"


def described(result: Lead) -> str:
    """Return a result in one line: the lead, and for both questions interval, p and verdict."""
    if math.isnan(result.difference):
        return UNDEFINED
    factor, unit = (100, " points") if _in_points(result) else (1, "")
    asked = [
        f"{words} {interval_text(result, scope)}, {p_text(result.estimate(scope).p)}: {reading(result, scope)}"
        for scope, words in SCOPES.items()
    ]
    return f"{factor * result.difference:+.1f}{unit}; {'; '.join(asked)}"


def _in_points(result: Lead | Mean) -> bool:
    return all(math.isfinite(bound) for bound in result.bounds)
