"""A paper's claims judged on a study, by the rules of papers.py.

Verdicts: ``reproduced``, ``contradicted``, ``not shown`` (the study is in the paper's setting and cannot tell) and
``not run`` (it is not in that setting, or runs are missing; what it has seen is quoted).
"""

from __future__ import annotations

from typing import Any

from internal_kd.errors import named
from internal_kd.report.claim_rules import CONTRADICTED, NOT_RUN, NOT_SHOWN, REPRODUCED, RULES, Judge, Judgement
from internal_kd.report.measures import Measures
from internal_kd.report.paper_setting import Difference, PaperSetting
from internal_kd.report.papers import Claim, Paper, Trend, rows_of
from internal_kd.report.scoring import Lines
from internal_kd.report.words import joined


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
                    "verdict": judged.verdict, "evidence": judged.evidence, "needed": judged.needed,
                }
            )  # fmt: skip
    return lines


def judge(claim: Claim, setting: PaperSetting, measures: Measures) -> Judgement:
    """Judge a claim by its rules; outside of its setting the verdict is ``not run``, and the evidence stays."""
    judged = [RULES[rule.kind](Judge(rule, setting, measures)) for rule in claim.rule]
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
