"""The paper's claims, judged in plain words: reproduced, not shown or contradicted, and what would decide them.

A claim is decided only in the paper's setting (its tasks, a teacher of its size, its depth). Elsewhere the verdict is
"not shown", and the evidence says what this study has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from internal_kd.analysis.cells import FULL, joined
from internal_kd.analysis.layout import shown
from internal_kd.analysis.paper import Claim, KnownPaper, Setting, best_arm, glue_names
from internal_kd.analysis.predictions import Evidence
from internal_kd.analysis.resampling import interval
from internal_kd.analysis.statistics import Arm, Comparison
from internal_kd.artefacts import StudentRun, TeacherRun
from internal_kd.study import Study

REPRODUCED, NOT_SHOWN, CONTRADICTED = "reproduced", "not shown", "contradicted"
Arms = Mapping[tuple[str, ...], Arm]


@dataclass(frozen=True)
class Verdict:
    """A claim with its verdict, the evidence for it, and what would be needed where it is not decided."""

    name: str
    text: str
    status: str
    source: str
    verdict: str
    evidence: str
    needed: str


@dataclass(frozen=True)
class Judgement:
    """A verdict, the evidence in words, and what is needed."""

    verdict: str
    evidence: str
    needed: str = ""


@dataclass(frozen=True)
class Case:
    """All that a judge looks at."""

    study: Study
    setting: Setting
    arms: Arms
    comparisons: Sequence[Comparison]
    evidence: Evidence

    def main_metric(self, task: str) -> str:
        """Return a task's first metric."""
        return self.evidence.tasks[task].scored[0][0]

    def title(self, task: str) -> str:
        """Return a task's title."""
        return self.evidence.tasks[task].title

    @property
    def paper_tasks(self) -> dict[str, str]:
        """The paper's tasks that the study has: GLUE's name to the study's."""
        return {glue: name for glue, name in glue_names(self.study).items() if glue in self.setting.glue}

    def lacking(self, glue: Sequence[str] | None = None) -> list[str]:
        """Return what keeps this study from being the paper's setting."""
        wanted = self.setting.glue if glue is None else glue
        reasons = []
        if missing := [name for name in wanted if name not in self.paper_tasks]:
            reasons.append(f"the GLUE tasks {joined(missing)}" if len(missing) > 1 else f"the GLUE task {missing[0]}")
        if self.setting.teacher_encoder_parameters not in self.parameters(TeacherRun):
            reasons.append(f"a teacher with {self.setting.teacher_encoder_parameters:,} encoder parameters")
        if self.setting.student_layers not in self.study.params.study.depths:
            reasons.append(f"{self.setting.student_layers}-layer students")
        if FULL not in self.study.params.study.examples:
            reasons.append("students of the full training set")
        return reasons

    def parameters(self, kind: type[TeacherRun] | type[StudentRun]) -> set[int]:
        """Return the encoder parameters recorded by finished teachers or students."""
        runs = [f for f in self.evidence.finished.values() if isinstance(f.run, kind)]
        return {f.record["encoder_parameters"] for f in runs if "encoder_parameters" in f.record}


def judge_claims(
    study: Study, known: KnownPaper | None, arms: Arms, comparisons: Sequence[Comparison], evidence: Evidence
) -> list[Verdict]:
    """Judge every claim of paper/claims.yaml."""
    if known is None:
        return []
    case = Case(study, known.setting, arms, comparisons, evidence)
    judges = {
        "better": _judge_better,
        "share": _judge_share,
        "best": _judge_best,
        "gap_grows": _judge_gap,
        "parameters": _judge_parameters,
    }
    verdicts = []
    for claim in known.claims:
        judged = judges[claim.kind](claim, case)
        verdicts.append(
            Verdict(claim.name, claim.text, claim.status, known.source, judged.verdict, judged.evidence, judged.needed)
        )
    return verdicts


def _judge_better(claim: Claim, case: Case) -> Judgement:
    per_task: dict[str, list[Comparison]] = {}
    for c in case.comparisons:
        if c.id in claim.rows and c.baseline_id == claim.than and c.metric == case.main_metric(c.task):
            per_task.setdefault(c.task, []).append(c)
    sentences, better, worse = [], set(), set()
    for task, found in per_task.items():
        known = [c for c in found if c.difference is not None and c.low is not None and c.high is not None]
        if not known:
            continue
        above = [c for c in known if is_better(c, claim.p)]
        best = max(above or known, key=lambda c: c.difference or 0.0)
        lead = f"{shown(best.metric, best.difference, sign=True)} ({best.id})"
        sentences.append(f"{case.title(task)}: {len(above)} of {len(known)} rows better, the best {lead}")
        better |= {task} if above else set()
        worse |= {task} if all((c.high or 0.0) < 0 for c in known) else set()
    evidence = (
        "; ".join(sentences) + "."
        if sentences
        else f"No finished run of rows {joined(claim.rows)} beside {claim.than}."
    )
    if lacking := case.lacking():
        return Judgement(NOT_SHOWN, evidence, f"Not the paper's setting: needs {joined(lacking)}.")
    tasks = set(case.paper_tasks.values())
    if tasks <= better:
        return Judgement(REPRODUCED, evidence)
    if tasks <= worse:
        return Judgement(CONTRADICTED, evidence)
    undecided = joined(sorted(case.title(task) for task in tasks - better))
    return Judgement(
        NOT_SHOWN, evidence, f"More seeds or more dev examples on {undecided}: the intervals must leave 0."
    )


def is_better(comparison: Comparison, p: float) -> bool:
    """Whether a difference is above 0 beyond its interval, and below ``p`` over predictions after Holm's correction."""
    corrected = comparison.p_predictions_holm
    return comparison.low is not None and comparison.low > 0 and corrected is not None and corrected < p


def _judge_share(claim: Claim, case: Case) -> Judgement:
    shares, resampled = [], []
    for task in case.evidence.tasks:
        metric = case.main_metric(task)
        teacher = best_arm(case.arms, task, metric, ("1.0",), 0)
        student = best_arm(case.arms, task, metric, claim.rows, _depth(case))
        if teacher and student and (teacher.mean or 0) > 0:
            shares.append((student.mean or 0.0) / (teacher.mean or 1.0))
            resampled.append(student.resampled / teacher.resampled)
    if not shares:
        return Judgement(NOT_SHOWN, "No task has both a teacher and an internal student.", "Finish the missing runs.")
    mean, bounds = float(np.mean(shares)), interval(np.mean(resampled, axis=0))
    between = f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else ""
    evidence = (
        f"{100 * mean:.1f} % of the teacher kept{between}, the best internal student of each of {len(shares)} tasks."
    )
    if lacking := case.lacking():
        return Judgement(NOT_SHOWN, evidence, f"Not the paper's setting: needs {joined(lacking)}.")
    if len(shares) < len(case.evidence.tasks) or bounds is None:
        return Judgement(NOT_SHOWN, evidence, "Every task's teacher and internal students.")
    low, high = (claim.value - claim.tolerance) / 100, (claim.value + claim.tolerance) / 100
    if low <= mean <= high:
        return Judgement(REPRODUCED, evidence)
    if bounds[1] < low or bounds[0] > high:
        return Judgement(CONTRADICTED, evidence)
    return Judgement(NOT_SHOWN, evidence, "More seeds: the interval still reaches the paper's figure.")


def _judge_best(claim: Claim, case: Case) -> Judgement:
    task = case.paper_tasks.get(claim.glue or "")
    lacking = case.lacking([claim.glue or ""])
    if task is None or lacking:
        return Judgement(NOT_SHOWN, "This study cannot say.", f"Not the paper's setting: needs {joined(lacking)}.")
    metric, depth = case.main_metric(task), case.setting.student_layers
    arms = [arm for row in claim.among if (arm := best_arm(case.arms, task, metric, (row,), depth))]
    if not any(arm.cell.id in claim.rows for arm in arms) or len(arms) < 2:
        return Judgement(NOT_SHOWN, "The rows to compare are not finished.", f"Finished runs of {joined(claim.among)}.")
    winners = np.argmax([np.nan_to_num(arm.resampled, nan=-np.inf) for arm in arms], axis=0)
    share = float(np.mean([arms[winner].cell.id in claim.rows for winner in winners]))
    best = max(arms, key=lambda arm: arm.mean or 0.0)
    evidence = f"Best mean: {best.cell.title} ({best.cell.id}); such a row is best in {100 * share:.0f} % of resamples."
    if share >= 0.95:
        return Judgement(REPRODUCED, evidence)
    if share <= 0.05:
        return Judgement(CONTRADICTED, evidence)
    return Judgement(NOT_SHOWN, evidence, "More seeds: 95 % of the resamples must agree.")


def _judge_gap(claim: Claim, case: Case) -> Judgement:
    sizes = sorted(case.study.params.study.examples, key=lambda n: float("inf") if n == FULL else float(n))
    if len(sizes) < 2:
        return Judgement(
            NOT_SHOWN, "One training-set size only.", "A study with several `examples`, smallest and full."
        )
    sentences, growth = [], {}
    for task in case.evidence.tasks:
        gaps = [_gap(claim, case, task, str(size)) for size in (sizes[0], sizes[-1])]
        if gaps[0] is None or gaps[1] is None:
            continue
        bounds = interval(gaps[0] - gaps[1])
        if bounds:
            growth[task] = bounds
            points = f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"
            sentences.append(f"{case.title(task)}: the lead at {sizes[0]} minus that at {sizes[-1]} is {points}")
    evidence = "; ".join(sentences) + "." if sentences else "No task has both methods at both sizes."
    if lacking := case.lacking():
        return Judgement(NOT_SHOWN, evidence, f"Not the paper's setting: needs {joined(lacking)}.")
    tasks = case.paper_tasks.values()
    if all(task in growth and growth[task][0] > 0 for task in tasks):
        return Judgement(REPRODUCED, evidence)
    if all(task in growth and growth[task][1] < 0 for task in tasks):
        return Judgement(CONTRADICTED, evidence)
    return Judgement(NOT_SHOWN, evidence, "More seeds at both ends: the intervals must leave 0 on every task.")


def _gap(claim: Claim, case: Case, task: str, examples: str) -> np.ndarray | None:
    # The rows' mean, not the best of them: a best chosen at each size would grow with the noise of small sets.
    metric, depth = case.main_metric(task), _depth(case)
    rows = [arm for row in claim.rows if (arm := best_arm(case.arms, task, metric, (row,), depth, examples))]
    base = best_arm(case.arms, task, metric, (claim.than,), depth, examples)
    return np.mean([arm.resampled for arm in rows], axis=0) - base.resampled if rows and base else None


def _judge_parameters(claim: Claim, case: Case) -> Judgement:
    found: dict[int, set[int]] = {}
    for finished in case.evidence.finished.values():
        arm = next((a for a in case.arms.values() if finished.run in a.cell.runs), None)
        if arm and arm.cell.depth is not None and finished.record.get("encoder_parameters"):
            found.setdefault(arm.cell.depth, set()).add(finished.record["encoder_parameters"])
    seen = {depth: sorted(found[depth]) for depth in claim.values if depth in found}
    evidence = "; ".join(f"{d} layers: {', '.join(f'{n:,}' for n in counts)}" for d, counts in seen.items())
    if lacking := case.lacking([]):
        return Judgement(NOT_SHOWN, f"{evidence or 'No run'}.", f"Not the paper's setting: needs {joined(lacking)}.")
    if set(seen) != set(claim.values):
        return Judgement(
            NOT_SHOWN, f"{evidence}.", f"Finished runs of {joined([str(d) for d in claim.values])} layers."
        )
    same = all(round(n / 1e6, 1) == claim.values[depth] for depth, counts in seen.items() for n in counts)
    return Judgement(REPRODUCED if same else CONTRADICTED, f"{evidence}.")


def _depth(case: Case) -> int:
    depths = case.study.params.study.depths
    return case.setting.student_layers if case.setting.student_layers in depths else max(depths)
