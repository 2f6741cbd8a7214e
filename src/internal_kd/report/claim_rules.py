"""The rules that decide a paper's claims: each from a rule of papers.py and a study to a verdict and its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import isnan
from typing import Any

import numpy as np

from internal_kd.params.method import MethodParams
from internal_kd.report.cells import Cell, point_text
from internal_kd.report.comparing import paired_tests
from internal_kd.report.measures import Measured, Measures, combined
from internal_kd.report.paper_setting import PaperSetting
from internal_kd.report.papers import Better, Correlation, Order, Ratio, Row, Trend, Within, rows_of
from internal_kd.report.words import axis_title, joined, p_text
from internal_kd.statistics import Estimate, holm
from internal_kd.statistics.compare import Scope
from internal_kd.statistics.estimate import mean_of_independent

REPRODUCED, NOT_SHOWN, CONTRADICTED, NOT_RUN = "reproduced", "not shown", "contradicted", "not run"
# A measure's parts at one point: weights of rows, and of the baseline that they are compared with.
Parts = list[tuple[float, Measured]]


@dataclass(frozen=True)
class Judgement:
    """A verdict, the numbers that it rests on in words, and what would be needed."""

    verdict: str
    evidence: str
    needed: str = ""


class Judge:
    """One rule on one study: what the rules share."""

    def __init__(self, rule: Any, setting: PaperSetting, measures: Measures) -> None:
        self.rule, self.setting, self.measures = rule, setting, measures
        self.scope: Scope = "dev" if rule.scope == "dev set" else "new"
        self.analysis = setting.results.study.params.analysis
        self.tasks = setting.tasks(rule.tasks).values()

    def measured(self, task: str, row: Row | None, at: dict[str, Any] | None = None, **changes: Any) -> Measured | None:
        """Return what a row has of the rule's measure."""
        cell = self.setting.cell(task, row, {**self.rule.at, **(at or {})}) if row else None
        asked = {"measure": self.rule.measure, "where": self.rule.where} | changes
        return self.measures.of(cell, **asked, lower=self.rule.lower_is_better) if cell else None

    def best(self, task: str, rows: Iterable[Row]) -> Measured | None:
        """Return the best of several rows."""
        found = [one for row in rows if (one := self.measured(task, row))]
        return max(found, key=lambda one: one.gain, default=None)

    def combined(self, *parts: tuple[float, Measured]) -> Estimate:
        """Return a weighted sum with its error in the rule's scope."""
        return combined(parts, self.scope)

    def lead(self, ours: Measured, theirs: Measured) -> Estimate:
        """Return how much better ours is."""
        sign = 1 if ours.mean.higher_is_better else -1
        return self.combined((sign, ours), (-sign, theirs))

    def title(self, task: str) -> str:
        """Return a task's title."""
        return self.setting.results.evidence.tasks[task].info.title

    def nothing(self) -> Judgement:
        """Return the judgement without runs."""
        rows, tasks = joined(dict.fromkeys(row.row for row in rows_of(self.rule))), self.rule.tasks
        return Judgement(NOT_RUN, "", f"No finished runs of {rows} on {joined(tasks or self.setting.setting.tasks)}.")

    def shown(self, leads: Sequence[Estimate], least: float = 0.0) -> tuple[list[bool], list[bool]]:
        """Return which leads are shown to be above ``least`` or 0, and which below 0, after Holm's correction."""
        ps = holm([one.p for one in leads])
        better = [p < self.analysis.alpha and one.value > least for one, p in zip(leads, ps, strict=True)]
        worse = [p < self.analysis.alpha and one.value < 0 for one, p in zip(leads, ps, strict=True)]
        return better, worse


def _text(value: float, *, sign: bool = False) -> str:
    digits = 1 if abs(value) >= 1 or value == 0 else 3
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return (text.lstrip("+-") if not text.strip("+-0.,") else text).replace("-", "−")


def _with_interval(estimate: Estimate, *, sign: bool = False) -> str:
    """Return an estimate with its interval: ``+3.2 (−0.3 to +6.6)``."""
    low, high = estimate.interval()
    value = _text(estimate.value, sign=sign)
    return value if isnan(low) or low == high else f"{value} ({_text(low, sign=sign)} to {_text(high, sign=sign)})"


def _placed(estimate: Estimate, low: float, high: float) -> str:
    """Return whether an interval lies within bounds, outside of them, or across."""
    least, most = estimate.interval()
    if isnan(least):
        return NOT_SHOWN
    return REPRODUCED if low <= least and most <= high else CONTRADICTED if most < low or least > high else NOT_SHOWN


def _label(one: Measured, row: Row | None = None) -> str:
    at = f" at {', '.join(f'{axis_title(k)} {point_text(v)}' for k, v in row.at.items())}" if row and row.at else ""
    return one.cell.id + at


def better(judge: Judge) -> Judgement:
    """Judge whether every row is better than a baseline."""
    rule: Better = judge.rule
    leads, texts, per_seed = [], [], []
    for task in judge.tasks:
        pairs = [
            (row, ours, base)
            for row in rule.rows
            if (ours := judge.measured(task, row)) and (base := judge.measured(task, rule.than, row.at))
        ]
        own = [judge.lead(ours, base) for _, ours, base in pairs]
        leads += own
        per_seed += [_every_seed(judge, ours.cell, base.cell) for _, ours, base in pairs]
        if own:
            lead, (row, best, _) = max(zip(own, pairs, strict=True), key=lambda one: one[0].value)
            which = "highest " if len(own) > 1 else ""
            texts.append(f"{judge.title(task)}: {which}{_label(best, row)}, {_with_interval(lead, sign=True)}")
    if not leads:
        return judge.nothing()
    if rule.per_seed is None:
        right, wrong = judge.shown(leads, rule.least)
    else:
        right = [one == 1 and lead.value > rule.least for one, lead in zip(per_seed, leads, strict=True)]
        wrong = [one == -1 for one in per_seed]
    verdict = REPRODUCED if all(right) else CONTRADICTED if all(wrong) else NOT_SHOWN
    how = "" if rule.per_seed is None else f" in every seed (McNemar, p < {rule.per_seed:g})"
    evidence = f"{sum(right)} of {len(leads)} better{how}, {sum(wrong)} worse. {'; '.join(texts)}."
    return Judgement(verdict, evidence)


def _every_seed(judge: Judge, ours: Cell, theirs: Cell) -> int:
    """Return 1 if ours is better for every seed that both have, by the paper's test, -1 if worse, else 0."""
    level = judge.rule.per_seed
    if level is None:
        return 0
    found = paired_tests(judge.setting.results, theirs, ours)
    signs = {(p < level) * (1 if gain > 0 else -1) for p, gain in found}
    return signs.pop() if len(signs) == 1 else 0


def within(judge: Judge) -> Judgement:
    """Judge whether the best row's value lies within bounds."""
    rule: Within = judge.rule
    found = {task: best for task in judge.tasks if (best := judge.best(task, rule.rows))}
    if not found:
        return judge.nothing()
    estimates = {task: judge.combined((1, best)) for task, best in found.items()}
    placed = {_placed(estimate, rule.low, rule.high) for estimate in estimates.values()}
    texts = [f"{judge.title(t)}: {_label(found[t])}, {_with_interval(estimates[t])}" for t in found]
    return Judgement(placed.pop() if len(placed) == 1 else NOT_SHOWN, f"{'; '.join(texts)}.")


def ratio(judge: Judge) -> Judgement:
    """Judge whether the best row keeps a share of another's value, or closes a share of a gap."""
    rule: Ratio = judge.rule
    estimates, texts = [], []
    for task in judge.tasks:
        best, other, floor = (
            judge.best(task, rule.rows),
            judge.measured(task, rule.of),
            judge.measured(task, rule.above),
        )
        if not best or not other or (rule.above and not floor):
            continue
        zero = floor.value if floor else 0.0
        gap = other.value - zero
        if gap == 0:
            continue
        share = (best.value - zero) / gap
        # To first order: the gradient of (a - c) / (b - c).
        parts = [(1 / gap, best), (-share / gap, other), *([((share - 1) / gap, floor)] if floor else [])]
        spread = judge.combined(*parts)
        estimates.append(Estimate(share, spread.error, spread.degrees))
        texts.append(f"{judge.title(task)} {100 * share:.0f} % ({_label(best)})")
    if not estimates:
        return judge.nothing()
    mean = mean_of_independent(estimates)
    low, high = mean.interval()
    between = f" ({100 * low:.0f} to {100 * high:.0f} %)" if not isnan(low) else ""
    evidence = f"{100 * mean.value:.0f} %{between}: {', '.join(texts)}."
    if len(texts) == 1:
        evidence = f"{texts[0]}{between}."
    return Judgement(_placed(mean, rule.low, rule.high), evidence)


def order(judge: Judge) -> Judgement:
    """Judge whether rows stand in an order."""
    rule: Order = judge.rule
    steps, texts = [], []
    for task in judge.tasks:
        best = [judge.best(task, group) for group in rule.rows]
        found = [one for one in best if one]
        if len(found) == len(best):
            steps += [judge.lead(higher, lower) for higher, lower in pairwise(found)]
            texts.append(f"{judge.title(task)}: " + " > ".join(f"{one.cell.id} {_text(one.value)}" for one in found))
    if not steps:
        return judge.nothing()
    right, wrong = judge.shown(steps)
    verdict = REPRODUCED if all(right) else CONTRADICTED if any(wrong) else NOT_SHOWN
    return Judgement(verdict, f"{'; '.join(texts)}; {sum(right)} of {len(steps)} steps shown.")


def trend(judge: Judge) -> Judgement:
    """Judge whether values, or leads over a baseline, rise, fall or stay along a key."""
    rule: Trend = judge.rule
    ((key, values),) = rule.along.items()
    if key not in judge.setting.results.study.axes and key.partition(".")[0] in MethodParams.model_fields:
        return Judgement(NOT_RUN, f"One value of {key} only.")
    verdicts, texts = [], []
    for task in judge.tasks:
        points = [parts for value in values if (parts := _parts(judge, task, key, value))]
        if len(points) < len(values):
            continue
        places = np.arange(len(points)) - (len(points) - 1) / 2
        # The change from the first value to the last along the fitted line.
        slope = places * (len(points) - 1) / (places @ places)
        change = judge.combined(*((w * s, one) for s, parts in zip(slope, points, strict=True) for w, one in parts))
        at_points = [judge.combined(*parts) for parts in points]
        verdicts.append(_moved(judge, points, at_points[-1], change))
        told = " → ".join(_text(one.value, sign=bool(rule.than)) for one in at_points)
        texts.append(f"{judge.title(task)}: {told}, a change of {_with_interval(change, sign=True)}")
    if not verdicts:
        return judge.nothing()
    verdict = verdicts[0] if len(set(verdicts)) == 1 else NOT_SHOWN
    return Judgement(verdict, f"{joined(map(point_text, values), 'to')}: {'; '.join(texts)}.")


def _parts(judge: Judge, task: str, key: str, value: Any) -> Parts:
    """Return what is compared at one value of a key: a varied one, ``measure``, or a column."""
    rule: Trend = judge.rule
    at = {key: value} if key in judge.setting.results.study.axes else {}
    changes = {} if at else {"measure": value} if key == "measure" else {"where": {**rule.where, key: value}}
    rows = [one for row in rule.rows if (one := judge.measured(task, row, at, **changes))]
    base = judge.measured(task, rule.than, at, **changes)
    if len(rows) < len(rule.rows) or (rule.than and not base):
        return []
    sign = 1 if rows[0].mean.higher_is_better or not rule.than else -1
    return [*((sign / len(rows), one) for one in rows), *([(-sign, base)] if base else [])]


def _moved(judge: Judge, points: list[Parts], last: Estimate, change: Estimate) -> str:
    rule, alpha = judge.rule, judge.analysis.alpha
    if rule.direction != "stays":
        sign = 1 if rule.direction == "rises" else -1
        # A lead that grows has to be a lead in the end: falling behind by less is not what is claimed.
        leads = not rule.than or sign < 0 or last.value > 0
        if not change.p < alpha:
            return NOT_SHOWN
        return CONTRADICTED if sign * change.value < 0 else REPRODUCED if leads else NOT_SHOWN
    pairs = [judge.combined(*a, *((-w, one) for w, one in b)) for a, b in combinations(points, 2)]
    if change.p < alpha or any(p < alpha for p in holm([one.p for one in pairs])):
        return CONTRADICTED
    if rule.within == "seeds":
        spread = np.sqrt(np.mean([(one.scale * one.mean.std) ** 2 for parts in points for _, one in parts]))
        return REPRODUCED if max(abs(one.value) for one in pairs) <= spread else NOT_SHOWN
    margin = judge.analysis.margin if rule.within is None else rule.within
    return REPRODUCED if all(one.within(margin) for one in pairs) else NOT_SHOWN


def correlation(judge: Judge) -> Judgement:
    """Judge whether two measures go together over all seeds of all rows, at every varied value."""
    from scipy.stats import spearmanr

    rule: Correlation = judge.rule
    names = {row.row for row in rule.rows}
    verdicts, texts = [], []
    for task in judge.tasks:
        pairs: list[tuple[float, float]] = []
        for cell in judge.setting.results.cells:
            if cell.task == task and names & {cell.id, cell.method.name}:
                ours = judge.measures.of(cell, rule.measure, rule.where, lower=rule.lower_is_better)
                other = judge.measures.of(cell, rule.to)
                if ours and other and len(ours.mean.scores) == len(other.mean.scores):
                    pairs += zip(ours.mean.scores, other.mean.scores, strict=True)
        if len(pairs) < 3:
            continue
        found = spearmanr(*zip(*pairs, strict=True))
        sign = 1 if rule.sign == "positive" else -1
        shown = found.pvalue < judge.analysis.alpha
        verdicts.append(NOT_SHOWN if not shown else REPRODUCED if sign * found.statistic > 0 else CONTRADICTED)
        texts.append(f"{judge.title(task)}: {_text(found.statistic)} over {len(pairs)} runs, p {p_text(found.pvalue)}")
    if not verdicts:
        return judge.nothing()
    return Judgement(verdicts[0] if len(set(verdicts)) == 1 else NOT_SHOWN, f"Rank correlation: {'; '.join(texts)}.")


RULES: dict[str, Callable[[Judge], Judgement]] = {
    "better": better,
    "within": within,
    "ratio": ratio,
    "order": order,
    "trend": trend,
    "correlation": correlation,
}
