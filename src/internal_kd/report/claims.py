"""A paper's claims judged on a study, by the rules of papers.py.

Verdicts: ``reproduced``, ``contradicted``, ``not shown`` (the study is in the paper's setting and cannot tell) and
``not run`` (it is not in that setting, or runs are missing; what it has seen is quoted).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from math import isnan, nan
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from internal_kd.errors import named
from internal_kd.params.method import MethodParams
from internal_kd.report.cells import Cell, point_text
from internal_kd.report.comparing import paired_tests
from internal_kd.report.measures import Measured, Measures, bounds_of, combined
from internal_kd.report.paper_setting import Difference, PaperSetting
from internal_kd.report.papers import Better, Claim, Correlation, Order, Paper, Ratio, Row, Trend, Within, rows_of
from internal_kd.report.scoring import Lines
from internal_kd.report.words import axis_title, estimate_text, joined, number_text, percent
from internal_kd.statistics import SCOPES, Estimate, holm
from internal_kd.statistics.compare import Scope
from internal_kd.statistics.estimate import mean_of_independent
from internal_kd.statistics.reading import p_text

REPRODUCED, NOT_SHOWN, CONTRADICTED, NOT_RUN = "reproduced", "not shown", "contradicted", "not run"
# A measure's parts at one point: weights of rows, and of the baseline that they are compared with.
Parts = list[tuple[float, Measured]]
# What a rule finds on a task (leads, an estimate, or a verdict), and the numbers in words; None without runs.
Found = tuple[Any, str] | None


class Judgement(NamedTuple):
    """A verdict, the numbers that it rests on in words, and what would be needed."""

    verdict: str
    evidence: str
    needed: str = ""


def claim_lines(papers: dict[str, Paper], measures: Measures) -> Lines:
    """Return the table of claims."""
    lines = []
    for name, paper in papers.items():
        setting = PaperSetting(measures.results, paper)
        for claim in paper.claims:
            with named(f"papers/{name}.yaml: {claim.id or claim.claim[:40]}"):
                judged = judge(claim, setting, measures)
            lines.append(
                {
                    "paper": name, "claim_id": claim.id, "source": f"{paper.source}; {claim.source}",
                    "claim": claim.claim, "status": claim.status, "rule": ", ".join(rule.kind for rule in claim.rule),
                    **judged._asdict(),
                }
            )  # fmt: skip
    return lines


def judge(claim: Claim, setting: PaperSetting, measures: Measures) -> Judgement:
    """Judge a claim by its rules; outside of its setting the verdict is ``not run``, and the evidence stays."""
    judged = [Judge(rule, setting, measures).judgement() for rule in claim.rule]
    evidence = " ".join(one.evidence for one in judged if one.evidence)
    differing = [d for rule in claim.rule for d in _differences(rule, setting, claim.seeds)]
    if differing:
        needed = joined(dict.fromkeys(difference.needed for difference in differing))
        return Judgement(NOT_RUN, evidence, f"Not its setting; needs {needed}.")
    verdicts = [one.verdict for one in judged]
    verdict = next((v for v in (NOT_RUN, CONTRADICTED, NOT_SHOWN) if v in verdicts), REPRODUCED)
    return Judgement(verdict, evidence, " ".join(one.needed for one in judged if one.needed))


def _differences(rule: Any, setting: PaperSetting, seeds: int | None) -> list[Difference]:
    tasks, ats = rule.tasks or tuple(setting.setting.tasks), [rule.at]
    if isinstance(rule, Trend):
        ((key, values),) = rule.along.items()
        ats = [{**rule.at, key: value} for value in values] if key in setting.results.study.axes else ats
    return setting.differences(tasks, rows_of(rule), ats, seeds)


class Judge:
    """One rule on one study."""

    def __init__(self, rule: Any, setting: PaperSetting, measures: Measures) -> None:
        self.rule, self.setting, self.measures = rule, setting, measures
        self.scope: Scope = "dev" if rule.scope == SCOPES["dev"] else "new"
        self.study = setting.results.study
        self.alpha, self.margin = self.study.params.analysis.alpha, self.study.params.analysis.margin

    def judgement(self) -> Judgement:
        """Return what the rule finds on all of its tasks together."""
        found, texts = [], []
        for task in self.setting.tasks(self.rule.tasks).values():
            if one := FINDINGS[self.rule.kind](self, task):
                found.append(one[0])
                texts.append(f"{self.setting.results.tasks[task].info.title}: {one[1]}")
        if not found:
            rows = joined(dict.fromkeys(row.row for row in rows_of(self.rule)))
            tasks = joined(self.rule.tasks or self.setting.setting.tasks)
            return Judgement(NOT_RUN, "", f"No finished runs of {rows} on {tasks}, or none with a defined value.")
        evidence = f"{'; '.join(texts)}."
        if isinstance(self.rule, Better | Order):
            return self._of_leads([lead for leads in found for lead in leads], evidence)
        if isinstance(self.rule, Ratio):
            mean = mean_of_independent(found)
            in_percent = Estimate(100 * mean.value, 100 * mean.error, mean.degrees)
            evidence = f"{estimate_text(in_percent, digits=0, unit=' %')}. {evidence}"
            found = [_placed(mean, self.rule.low, self.rule.high)]
        return Judgement(found[0] if len(set(found)) == 1 else NOT_SHOWN, evidence)

    def _of_leads(self, leads: list[tuple[Estimate, int]], evidence: str) -> Judgement:
        """Judge whether all leads are shown, after Holm's correction or, with ``per_seed``, in every seed."""
        level, least = getattr(self.rule, "per_seed", None), getattr(self.rule, "least", 0.0)
        signs, how = [sign for _, sign in leads], f" in every seed (McNemar, p < {level:g})" if level else ""
        if level is None:
            ps = holm([lead.p for lead, _ in leads])
            signs = [int((p < self.alpha) * np.sign(lead.value)) for (lead, _), p in zip(leads, ps, strict=True)]
        right = [sign > 0 and lead.value > least for sign, (lead, _) in zip(signs, leads, strict=True)]
        wrong = [sign < 0 for sign in signs]
        against = any(wrong) if isinstance(self.rule, Order) else all(wrong)
        verdict = REPRODUCED if all(right) else CONTRADICTED if against else NOT_SHOWN
        return Judgement(verdict, f"{sum(right)} of {len(leads)} better{how}, {sum(wrong)} worse. {evidence}")

    def measured(self, task: str, row: Row | None, at: dict[str, Any] | None = None, **changes: Any) -> Measured | None:
        """Return what a row has of the rule's measure."""
        cell = self.setting.cell(task, row, {**self.rule.at, **(at or {})}) if row else None
        asked = {"measure": self.rule.measure, "where": self.rule.where} | changes
        found = self.measures.of(cell, **asked, lower=self.rule.lower_is_better) if cell else None
        return found.as_constant(self.setting.setting.seeds) if found and self.setting.has_one(found.cell) else found

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


# What the rules find on a task


def _better(judge: Judge, task: str) -> Found:
    """Every row's lead over the baseline, with its sign by the paper's test."""
    rule: Better = judge.rule
    pairs = [
        (row, ours, base)
        for row in rule.rows
        if (ours := judge.measured(task, row)) and (base := judge.measured(task, rule.than, row.at))
    ]
    if not pairs:
        return None
    leads = [judge.lead(ours, base) for _, ours, base in pairs]
    lead, (row, best, base) = max(zip(leads, pairs, strict=True), key=lambda one: one[0].value)
    told = estimate_text(lead, bounds_of((1, best), (-1, base)), sign=True)
    text = f"{'highest ' if len(pairs) > 1 else ''}{_label(best, row)}, {told}"
    signs = [_every_seed(judge, ours.cell, base.cell) for _, ours, base in pairs]
    # A row whose value is not defined is not shown to be better.
    unknown = [(Estimate(0.0, nan, 1.0), 0)] * (len(rule.rows) - len(pairs))
    return [*zip(leads, signs, strict=True), *unknown], text


def _every_seed(judge: Judge, ours: Cell, theirs: Cell) -> int:
    """Return 1 if ours is better for every seed that both have, by the paper's test, -1 if worse, else 0."""
    level = judge.rule.per_seed
    found = paired_tests(judge.setting.results, theirs, ours) if level is not None else []
    signs = {(p < level) * (1 if gain > 0 else -1) for p, gain in found}
    return signs.pop() if len(signs) == 1 else 0


def _order(judge: Judge, task: str) -> Found:
    """The lead of every row over the next."""
    rule: Order = judge.rule
    found = [one for group in rule.rows if (one := judge.best(task, group))]
    if len(found) < len(rule.rows):
        return None
    text = " > ".join(f"{one.cell.id} {number_text(one.value)}" for one in found)
    return [(judge.lead(higher, lower), 0) for higher, lower in pairwise(found)], text


def _within(judge: Judge, task: str) -> Found:
    """Whether the best row's value lies within bounds."""
    rule: Within = judge.rule
    best = judge.best(task, rule.rows)
    if best is None:
        return None
    estimate = judge.combined((1, best))
    return _placed(estimate, rule.low, rule.high), f"{_label(best)}, {estimate_text(estimate, bounds_of((1, best)))}"


def _ratio(judge: Judge, task: str) -> Found:
    """The best row's share of another's value, or of a gap."""
    rule: Ratio = judge.rule
    best, other = judge.best(task, rule.rows), judge.measured(task, rule.of)
    floor = judge.measured(task, rule.above)
    zero = floor.value if floor else 0.0
    if not best or not other or (rule.above and not floor) or other.value == zero:
        return None
    gap = other.value - zero
    share = (best.value - zero) / gap
    # To first order: the gradient of (a - c) / (b - c).
    parts = [(1 / gap, best), (-share / gap, other), *([((share - 1) / gap, floor)] if floor else [])]
    spread = judge.combined(*parts)
    return Estimate(share, spread.error, spread.degrees), f"{percent(share)} ({_label(best)})"


def _trend(judge: Judge, task: str) -> Found:
    """Whether values, or leads over a baseline, rise, fall or stay along a key."""
    rule: Trend = judge.rule
    ((key, values),) = rule.along.items()
    if key not in judge.study.axes and key.partition(".")[0] in MethodParams.model_fields:
        return None  # one value only
    points = [parts for value in values if (parts := _parts(judge, task, key, value))]
    if len(points) < len(values):
        return None
    places = np.arange(len(points)) - (len(points) - 1) / 2
    # The change from the first value to the last along the fitted line.
    slope = places * (len(points) - 1) / (places @ places)
    rise = [(w * s, one) for s, parts in zip(slope, points, strict=True) for w, one in parts]
    change = judge.combined(*rise)
    at_points = [judge.combined(*parts) for parts in points]
    told = " → ".join(number_text(one.value, sign=bool(rule.than)) for one in at_points)
    told += f", a change of {estimate_text(change, bounds_of(*rise), sign=True)}"
    text = f"{joined(map(point_text, values), 'to')}: {told}"
    return _moved(judge, points, at_points[-1], change), text


def _parts(judge: Judge, task: str, key: str, value: Any) -> Parts:
    """Return what is compared at one value of a key: a varied one, ``measure``, or a column."""
    rule: Trend = judge.rule
    at = {key: value} if key in judge.study.axes else {}
    changes = {} if at else {"measure": value} if key == "measure" else {"where": {**rule.where, key: value}}
    rows = [one for row in rule.rows if (one := judge.measured(task, row, at, **changes))]
    base = judge.measured(task, rule.than, at, **changes)
    if len(rows) < len(rule.rows) or (rule.than and not base):
        return []
    sign = 1 if rows[0].mean.higher_is_better or not rule.than else -1
    return [*((sign / len(rows), one) for one in rows), *([(-sign, base)] if base else [])]


def _moved(judge: Judge, points: list[Parts], last: Estimate, change: Estimate) -> str:
    rule: Trend = judge.rule
    if rule.direction != "stays":
        sign = 1 if rule.direction == "rises" else -1
        # A lead that grows has to be a lead in the end: falling behind by less is not what is claimed.
        leads = not rule.than or sign < 0 or last.value > 0
        if not change.p < judge.alpha:
            return NOT_SHOWN
        return CONTRADICTED if sign * change.value < 0 else REPRODUCED if leads else NOT_SHOWN
    pairs = [judge.combined(*a, *((-w, one) for w, one in b)) for a, b in combinations(points, 2)]
    if any(p < judge.alpha for p in (change.p, *holm([one.p for one in pairs]))):
        return CONTRADICTED
    if rule.within == "seeds":
        spread = np.sqrt(np.mean([(one.scale * one.mean.std) ** 2 for parts in points for _, one in parts]))
        return REPRODUCED if max(abs(one.value) for one in pairs) <= spread else NOT_SHOWN
    margin = judge.margin if rule.within is None else rule.within
    return REPRODUCED if all(one.within(margin) for one in pairs) else NOT_SHOWN


def _correlation(judge: Judge, task: str) -> Found:
    """Whether two measures go together over all seeds of all rows, at every varied value."""
    rule: Correlation = judge.rule
    names, pairs = {row.row for row in rule.rows}, list[tuple[float, float]]()
    for cell in judge.setting.results.cells:
        if cell.task == task and names & {cell.id, cell.method.name}:
            ours = judge.measures.of(cell, rule.measure, rule.where, lower=rule.lower_is_better)
            other = judge.measures.of(cell, rule.to)
            if ours and other and len(ours.mean.scores) == len(other.mean.scores):
                pairs += zip(ours.mean.scores, other.mean.scores, strict=True)
    if len(pairs) < 3:
        return None
    if any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return NOT_SHOWN, f"every one of {len(pairs)} runs has the same value"
    found = spearmanr(*zip(*pairs, strict=True))
    sign = 1 if rule.sign == "positive" else -1
    verdict = REPRODUCED if sign * found.statistic > 0 else CONTRADICTED
    text = f"rank correlation {number_text(found.statistic)} over {len(pairs)} runs, p {p_text(found.pvalue)}"
    return verdict if found.pvalue < judge.alpha else NOT_SHOWN, text


FINDINGS: dict[str, Callable[[Judge, str], Found]] = {
    "better": _better, "within": _within, "ratio": _ratio, "order": _order, "trend": _trend,
    "correlation": _correlation,
}  # fmt: skip


def _placed(estimate: Estimate, low: float, high: float) -> str:
    """Return whether an interval lies within bounds, outside of them, or across."""
    least, most = estimate.interval()
    if isnan(least):
        return NOT_SHOWN
    return REPRODUCED if low <= least and most <= high else CONTRADICTED if most < low or least > high else NOT_SHOWN


def _label(one: Measured, row: Row | None = None) -> str:
    at = f" at {', '.join(f'{axis_title(k)} {point_text(v)}' for k, v in row.at.items())}" if row and row.at else ""
    return one.cell.id + at
