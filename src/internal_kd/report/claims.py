"""A paper's claims judged on a study, by the five rules of papers.py.

Verdicts: ``reproduced``, ``contradicted``, ``not shown`` (the study is in the paper's setting and cannot tell) and
``not run`` (it is not in that setting, or runs are missing; what it has seen is quoted).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan
from typing import Any

import numpy as np

from internal_kd.report.cells import Cell
from internal_kd.report.papers import (
    Better,
    Case,
    Claim,
    Order,
    Paper,
    Ratio,
    Trend,
    Within,
)
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import Lines
from internal_kd.report.words import joined, scale_of
from internal_kd.statistics import Estimate, Mean, holm, lead
from internal_kd.statistics.estimate import mean_of_independent
from internal_kd.statistics.variance import Crossed

REPRODUCED, NOT_SHOWN, CONTRADICTED, NOT_RUN = "reproduced", "not shown", "contradicted", "not run"


@dataclass(frozen=True)
class Judgement:
    """A verdict, the numbers that it rests on in words, and what would be needed."""

    verdict: str
    evidence: str
    needed: str = ""


def claim_lines(results: StudyResults, papers: dict[str, Paper]) -> Lines:
    """Return the table of claims, of the papers that have a task in common with the study."""
    lines = []
    for name, paper in papers.items():
        case = Case(results, paper)
        for claim in paper.claims if case.tasks() else ():
            judged = judge(case, claim)
            lines.append(
                {
                    "paper": name, "source": f"{paper.source}; {claim.source}", "claim": claim.claim,
                    "status": claim.status, "rule": claim.rule.kind, "verdict": judged.verdict,
                    "evidence": judged.evidence, "needed": judged.needed,
                }
            )  # fmt: skip
    return lines


def judge(case: Case, claim: Claim) -> Judgement:
    """Judge one claim by its rule; outside of its setting the verdict is ``not run``, and the evidence stays."""
    rule = claim.rule
    judges = {"better": _better, "within": _within, "ratio": _ratio, "order": _order, "trend": _trend}
    judged: Judgement = judges[rule.kind](case, rule)  # type: ignore[operator]
    if isinstance(rule, Within) and rule.measure != "score":
        needed = [difference.needed for difference in case.encoder_differences()]
    else:
        ends = [{**rule.at, rule.axis: end} for end in (rule.start, rule.end)] if isinstance(rule, Trend) else [rule.at]
        found = [d for at in ends for d in case.differences(rule.tasks or tuple(case.setting.tasks), _rows(rule), at)]
        needed = list(dict.fromkeys(difference.needed for difference in found))
    if needed:
        return Judgement(NOT_RUN, judged.evidence, f"Not its setting; needs {joined(needed)}.")
    return judged


def _rows(rule: Any) -> tuple[str, ...]:
    named = [rule.rows, getattr(rule, "than", None), getattr(rule, "of", None), getattr(rule, "above", None)]
    flat: list[str] = []
    for part in named:
        for row in part if isinstance(part, tuple) else (part,):
            flat += row if isinstance(row, tuple) else [row] if row else []
    return tuple(dict.fromkeys(flat))


# What the rules share


def _mean(case: Case, task: str, row: str, at: dict[str, Any]) -> tuple[Cell, Mean] | None:
    cell = case.cell(task, row, at)
    mean = case.results.mean(cell, case.results.task(cell).scored[0]) if cell else None
    return (cell, mean) if cell and mean and not isnan(mean.mean) else None


def _best(case: Case, task: str, rows: Sequence[str], at: dict[str, Any]) -> tuple[Cell, Mean] | None:
    found = [one for row in rows if (one := _mean(case, task, row, at))]
    return max(found, key=lambda one: one[1].mean * (1 if one[1].higher_is_better else -1), default=None)


def contrast(parts: Sequence[tuple[float, Mean]], scope: str) -> Estimate:
    """Return the weighted sum of means of the same examples, with its error in a scope.

    Args:
        parts: (weight, mean) of each.
        scope: ``dev set`` or ``new examples``.
    """
    by_example = sum(weight * mean.side.by_example for weight, mean in parts)
    examples = parts[0][1].examples
    variance = Crossed(
        np.asarray(np.var(by_example, ddof=1) / examples),
        tuple(weight**2 * mean.side.variance_of_seeds() for weight, mean in parts),
        tuple(weight**2 * mean.side.variance_of_residual() for weight, mean in parts),
        tuple(mean.seeds for _, mean in parts),
        examples,
    )
    spread, degrees = variance.on_this_dev_set() if scope == "dev set" else variance.on_new_examples()
    value = sum(weight * mean.mean for weight, mean in parts)
    return Estimate(float(value), float(np.sqrt(spread)), float(degrees))


def _told(estimate: Estimate, scale: float, *, sign: bool = True) -> str:
    """Return an estimate with its interval: ``+3.2 (−0.3 to +6.6)``."""
    texts = [f"{scale * value:{'+' if sign else ''}.1f}" for value in (estimate.value, *estimate.interval())]
    value, low, high = (text.lstrip("+-") if float(text) == 0 else text.replace("-", "−") for text in texts)
    return value if isnan(estimate.error) else f"{value} ({low} to {high})"


def _title(case: Case, task: str) -> str:
    return case.results.evidence.tasks[task].info.title


def _nothing(case: Case, rule: Any) -> Judgement:
    return Judgement(
        NOT_RUN, "", f"No finished runs of {joined(_rows(rule))} on {joined(rule.tasks or case.setting.tasks)}."
    )


def _placed(estimate: Estimate, low: float, high: float) -> str:
    """Return whether an interval lies within bounds, outside of them, or across."""
    least, most = estimate.interval()
    if isnan(least):
        return NOT_SHOWN
    return REPRODUCED if low <= least and most <= high else CONTRADICTED if most < low or least > high else NOT_SHOWN


# The rules


def _better(case: Case, rule: Better) -> Judgement:
    found, texts = [], []
    for task in case.tasks(rule.tasks).values():
        base = _mean(case, task, rule.than, rule.at)
        rows = [one for row in rule.rows if (one := _mean(case, task, row, rule.at))] if base else []
        leads = [(cell, lead(base[1], mean)) for cell, mean in rows if base]
        found += [one for _, one in leads]
        if leads:
            cell, best = max(leads, key=lambda one: one[1].difference)
            scale = scale_of(case.results.task(cell).scored[0].name)
            told = _told(best.dev if rule.scope == "dev set" else best.new, scale)
            texts.append(f"{_title(case, task)}: highest {cell.id}, {told}")
    if not found:
        return _nothing(case, rule)
    scope = "dev" if rule.scope == "dev set" else "new"
    ps = holm([nan if one.one_seed else one.estimate(scope).p for one in found])  # type: ignore[arg-type]
    alpha, least = case.results.study.params.analysis.alpha, rule.least / 100
    signs = [1 if one.higher_is_better else -1 for one in found]
    better = [p < alpha and s * one.difference > least for one, p, s in zip(found, ps, signs, strict=True)]
    worse = [p < alpha and s * one.difference < 0 for one, p, s in zip(found, ps, signs, strict=True)]
    evidence = f"{sum(better)} of {len(found)} better, {sum(worse)} worse. {'; '.join(texts)}."
    if all(better):
        return Judgement(REPRODUCED, evidence)
    verdict = CONTRADICTED if all(worse) else NOT_SHOWN
    return Judgement(verdict, evidence)


def _within(case: Case, rule: Within) -> Judgement:
    if rule.measure != "score":
        cells = [
            c for task in case.tasks(rule.tasks).values() for row in rule.rows if (c := case.cell(task, row, rule.at))
        ]
        found = (done.record.get(rule.measure) for cell in cells for done in case.results.finished(cell))
        counts = {int(number) for number in found if number is not None}
        if not counts:
            return _nothing(case, rule)
        inside = all(rule.low <= round(number / 1e6, 1) <= rule.high for number in counts)
        return Judgement(
            REPRODUCED if inside else CONTRADICTED, f"{joined(f'{n:,}' for n in sorted(counts))} parameters."
        )
    estimates, texts = [], []
    for task in case.tasks(rule.tasks).values():
        best = _best(case, task, rule.rows, rule.at)
        if best:
            cell, mean = best
            scale = scale_of(case.results.task(cell).scored[0].name)
            spread = contrast([(scale, mean)], rule.scope)
            estimates.append(spread)
            texts.append(f"{_title(case, task)}: {cell.id}, {_told(spread, 1, sign=False)}")
    if not estimates:
        return _nothing(case, rule)
    placed = {_placed(one, rule.low, rule.high) for one in estimates}
    return Judgement(placed.pop() if len(placed) == 1 else NOT_SHOWN, f"{'; '.join(texts)}.")


def _ratio(case: Case, rule: Ratio) -> Judgement:
    estimates, texts = [], []
    for task in case.tasks(rule.tasks).values():
        best, other = _best(case, task, rule.rows, rule.at), _mean(case, task, rule.of, rule.at)
        floor = _mean(case, task, rule.above, rule.at) if rule.above else None
        if not best or not other or (rule.above and not floor):
            continue
        zero = floor[1].mean if floor else 0.0
        whole = other[1].mean - zero
        if whole <= 0:
            continue
        share = (best[1].mean - zero) / whole
        # To first order: the gradient of (a - c) / (b - c).
        parts = [
            (1 / whole, best[1]),
            (-share / whole, other[1]),
            *([((share - 1) / whole, floor[1])] if floor else []),
        ]
        spread = contrast(parts, rule.scope)
        estimates.append(Estimate(share, spread.error, spread.degrees))
        texts.append(f"{_title(case, task)} {100 * share:.0f} % ({best[0].id})")
    if not estimates:
        return _nothing(case, rule)
    mean = mean_of_independent(estimates)
    low, high = mean.interval()
    between = f" ({100 * low:.0f} to {100 * high:.0f} %)" if not isnan(low) else ""
    return Judgement(_placed(mean, rule.low, rule.high), f"{100 * mean.value:.0f} %{between}: {', '.join(texts)}.")


def _order(case: Case, rule: Order) -> Judgement:
    groups = [row if isinstance(row, tuple) else (row,) for row in rule.rows]
    steps, texts = [], []
    for task in case.tasks(rule.tasks).values():
        best = [_best(case, task, group, rule.at) for group in groups]
        found = [one for one in best if one]
        if len(found) < len(groups):
            continue
        for (_, higher), (_, lower) in pairwise(found):
            compared = lead(lower, higher)
            steps.append((compared, compared.dev if rule.scope == "dev set" else compared.new))
        texts.append(
            f"{_title(case, task)}: " + " > ".join(f"{cell.id} {_told_mean(case, cell, mean)}" for cell, mean in found)
        )
    if not steps:
        return _nothing(case, rule)
    ps = holm([nan if compared.one_seed else estimate.p for compared, estimate in steps])
    alpha = case.results.study.params.analysis.alpha
    signs = [1 if compared.higher_is_better else -1 for compared, _ in steps]
    right = [p < alpha and s * one.difference > 0 for (one, _), p, s in zip(steps, ps, signs, strict=True)]
    wrong = [p < alpha and s * one.difference < 0 for (one, _), p, s in zip(steps, ps, signs, strict=True)]
    verdict = REPRODUCED if all(right) else CONTRADICTED if any(wrong) else NOT_SHOWN
    return Judgement(verdict, f"{'; '.join(texts)}; {sum(right)} of {len(steps)} steps shown.")


def _told_mean(case: Case, cell: Cell, mean: Mean) -> str:
    return f"{scale_of(case.results.task(cell).scored[0].name) * mean.mean:.1f}"


def _trend(case: Case, rule: Trend) -> Judgement:
    changes, texts, leads_at_end = [], [], []
    if rule.axis not in case.results.study.axes:
        return Judgement(NOT_RUN, f"One value of {rule.axis} only.")
    for task in case.tasks(rule.tasks).values():
        ends = []
        for value in (rule.start, rule.end):
            at = {**rule.at, rule.axis: value}
            rows = [one[1] for row in rule.rows if (one := _mean(case, task, row, at))]
            base = _mean(case, task, rule.than, at) if rule.than else None
            if len(rows) == len(rule.rows) and (base or not rule.than):
                ends.append([*((1 / len(rows), mean) for mean in rows), *([(-1.0, base[1])] if base else [])])
        if len(ends) < 2:
            continue
        start, end = ends
        change = contrast([*end, *((-weight, mean) for weight, mean in start)], rule.scope)
        scale = scale_of(case.results.evidence.tasks[task].scored[0].name)
        both = [contrast(parts, rule.scope) for parts in (start, end)]
        changes.append(change)
        leads_at_end.append(both[1])
        told = [_told(estimate, scale) for estimate in (*both, change)]
        texts.append(f"{_title(case, task)}: {told[0]} to {told[1]}, a change of {told[2]}")
    if not changes:
        return _nothing(case, rule)
    alpha = case.results.study.params.analysis.alpha
    if rule.direction == "stays":
        margin = case.results.study.params.analysis.margin / 100
        flat = [change.within(margin) for change in changes]
        moved = [change.p < alpha for change in changes]
        verdict = REPRODUCED if all(flat) else CONTRADICTED if all(moved) else NOT_SHOWN
    else:
        sign = 1 if rule.direction == "rises" else -1
        along = [change.p < alpha and sign * change.value > 0 for change in changes]
        against = [change.p < alpha and sign * change.value < 0 for change in changes]
        # A lead that grows has to be a lead in the end: falling behind by less is not what is claimed.
        leads = not rule.than or sign < 0 or all(end.value > 0 for end in leads_at_end)
        verdict = REPRODUCED if all(along) and leads else CONTRADICTED if all(against) else NOT_SHOWN
    return Judgement(verdict, f"{'; '.join(texts)}.")
