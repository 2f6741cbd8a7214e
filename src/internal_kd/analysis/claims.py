"""The paper's claims, judged in plain words: reproduced, not shown or contradicted, and what would decide them.

A claim is decided only in the paper's setting (``paper_setting``), with every row and task it is about. Elsewhere the
verdict is "not shown", and the evidence quotes what this study has seen of the paper's tasks, and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from internal_kd.analysis.cells import FULL, TEACHER_ID, cell_of_run, joined, teacher_layers
from internal_kd.analysis.layout import shown
from internal_kd.analysis.paper import Claim, KnownPaper
from internal_kd.analysis.paper_setting import Arms, Case, Lack, best_of, needs, size_words
from internal_kd.analysis.predictions import Evidence
from internal_kd.analysis.resampling import joint_interval
from internal_kd.analysis.sentences import BETTER, WORSE, difference_text, leaves_zero_out, reading_of
from internal_kd.analysis.statistics import Arm, Comparison
from internal_kd.study import Study

REPRODUCED, NOT_SHOWN, CONTRADICTED = "reproduced", "not shown", "contradicted"


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


def judge_claims(
    study: Study, known: KnownPaper | None, arms: Arms, comparisons: Sequence[Comparison], evidence: Evidence
) -> list[Verdict]:
    """Judge every claim of paper/claims.yaml."""
    if known is None:
        return []
    case = Case(study, known.setting, arms, evidence, comparisons)
    judges = {
        "better": _judge_better,
        "share": _judge_share,
        "best": _judge_best,
        "gap_grows": _judge_gap,
        "parameters": _judge_parameters,
    }
    verdicts = []
    for claim in known.claims:
        asked = claim if claim.glue else claim.model_copy(update={"glue": known.setting.glue})
        judged = judges[claim.kind](asked, case)
        verdicts.append(
            Verdict(claim.name, claim.text, claim.status, known.source, judged.verdict, judged.evidence, judged.needed)
        )
    return verdicts


def _judge_better(claim: Claim, case: Case) -> Judgement:
    """Ask every row on every task of the claim; better and worse are read alike, as in the table of comparisons."""
    sentences, readings, compared = [], [], list[Comparison]()
    for task in case.tasks(claim.glue):
        found = [
            c
            for c in case.comparisons
            if (c.task, c.metric, c.depth, c.examples) == (task, case.main_metric(task), case.depth, case.sizes[-1])
            and (c.id in claim.rows and c.baseline_id == claim.than)
            and not (c.difference is None or c.low is None or c.high is None)
        ]
        if found:
            own = [reading_of(c) for c in found]
            best = max(found, key=lambda c: c.difference or 0.0)
            sentences.append(f"{case.title(task)}: {_counted(own)}, highest {best.id} with {difference_text(best)}")
            readings += own
            compared += found
    evidence = _evidence(case, sentences, f"in all {_counted(readings)}", f"rows {joined(claim.rows)} and {claim.than}")
    if lacks := case.lacks(claim.glue, (*claim.rows, claim.than)):
        return Judgement(NOT_SHOWN, evidence, needs(lacks))
    asked = len(claim.glue) * len(claim.rows)
    if readings.count(BETTER) == asked:
        return Judgement(REPRODUCED, evidence)
    if readings.count(WORSE) == asked:
        return Judgement(CONTRADICTED, evidence)
    if BETTER in readings and WORSE in readings:
        return Judgement(NOT_SHOWN, evidence, "Mixed: it holds of some rows and tasks, and the opposite of others.")
    left = asked - readings.count(BETTER) - readings.count(WORSE)
    enough = [c.seeds_needed for c in compared if c.seeds_needed and not leaves_zero_out(c)]
    seeds = f"those of {len(enough)} with up to {max(enough)} seeds of each side" if enough else "none of theirs"
    return Judgement(
        NOT_SHOWN,
        evidence,
        f"More dev examples or seeds: {left} of {asked} differences are not shown. If they stayed as they are, of the "
        f"intervals that hold 0 more seeds alone would clear {seeds}; p over predictions hangs on the dev examples.",
    )


def _counted(readings: Sequence[str]) -> str:
    return f"{readings.count(BETTER)} better, {readings.count(WORSE)} worse, of {len(readings)}"


def _judge_share(claim: Claim, case: Case) -> Judgement:
    shares, groups, sentences = [], [], []
    for task in case.tasks(claim.glue):
        teacher, students = case.arms_of(task, (TEACHER_ID,)), case.arms_of(task, claim.rows)
        if not teacher or not students or (teacher[0].mean or 0.0) <= 0:
            continue
        best = best_of(students)
        shares.append((best.mean or 0.0) / (teacher[0].mean or 1.0))
        groups.append([*teacher, *students])
        sentences.append(f"{case.title(task)} {100 * shares[-1]:.1f} % ({best.cell.id}, the best of {len(students)})")
    mean, bounds = (100 * float(np.mean(shares)), _interval_of_shares(groups)) if shares else (0.0, None)
    low, high = (100 * bound for bound in bounds) if bounds else (float("nan"), float("nan"))
    between = f" (95 % interval {low:.1f} to {high:.1f}, the best chosen anew in every resample)" if bounds else ""
    evidence = _evidence(
        case, sentences, f"on average {mean:.1f} % of the teacher kept{between}", "a teacher and its internal students"
    )
    if lacks := case.lacks(claim.glue, (TEACHER_ID, *claim.rows)):
        return Judgement(NOT_SHOWN, evidence, needs(lacks))
    if len(shares) < len(claim.glue) or bounds is None:
        return Judgement(NOT_SHOWN, evidence, "A teacher and students with a score above 0 on every task.")
    least, most = claim.value - claim.tolerance, claim.value + claim.tolerance
    if least <= low and high <= most:
        return Judgement(REPRODUCED, evidence)
    if high < least or low > most:
        return Judgement(CONTRADICTED, evidence)
    return Judgement(
        NOT_SHOWN, evidence, f"More seeds: the interval must lie within {least:g} to {most:g} %, or outside of it."
    )


def _interval_of_shares(groups: Sequence[Sequence[Arm]]) -> tuple[float, float] | None:
    """Return the interval of the mean share over tasks; a group is a task's teacher, then its students."""

    def mean_share(*means: np.ndarray) -> np.ndarray:
        left, shares = iter(means), []
        for group in groups:
            teacher, *students = (next(left) for _ in group)
            with np.errstate(divide="ignore", invalid="ignore"):
                shares.append(np.fmax.reduce(students) / teacher)  # the best chosen anew in every resample
        return np.asarray(np.mean(shares, axis=0))

    return joint_interval(mean_share, [arm.spread for group in groups for arm in group])


def _judge_best(claim: Claim, case: Case) -> Judgement:
    sentences, shares = [], []
    for task in case.tasks(claim.glue):
        arms = case.arms_of(task, claim.among)
        # Without one of the claim's own rows there is nothing to say of them.
        if len(arms) < 2 or not any(arm.cell.id in claim.rows for arm in arms):
            continue
        best, scores = best_of(arms), [np.nan_to_num(arm.resampled, nan=-np.inf) for arm in arms]
        shares.append(float(np.mean([arms[winner].cell.id in claim.rows for winner in np.argmax(scores, axis=0)])))
        low, high = best.interval or (None, None)
        sentences.append(
            f"{case.title(task)}: the best mean of {len(arms)} rows is that of {best.cell.id} ({best.cell.title}), "
            f"{shown(best.metric, best.mean)} ({shown(best.metric, low)} to {shown(best.metric, high)}); one of "
            f"{joined(claim.rows)} is best in {100 * shares[-1]:.0f} % of the resamples"
        )
    evidence = _evidence(case, sentences, "", f"one of the rows {joined(claim.rows)} beside another")
    if lacks := case.lacks(claim.glue, claim.among):
        return Judgement(NOT_SHOWN, evidence, needs(lacks))
    if len(shares) == len(claim.glue) and min(shares) >= 0.95:
        return Judgement(REPRODUCED, evidence)
    if len(shares) == len(claim.glue) and max(shares) <= 0.05:
        return Judgement(CONTRADICTED, evidence)
    return Judgement(NOT_SHOWN, evidence, "More seeds: 95 % of the resamples must agree.")


def _judge_gap(claim: Claim, case: Case) -> Judgement:
    smallest, largest = case.sizes[0], case.sizes[-1]
    if smallest == largest:
        return Judgement(
            NOT_SHOWN, "One training-set size only.", f"A study with several `examples`, {claim.examples:,} and full."
        )
    leads, sentences = [], []
    for task in case.tasks(claim.glue):
        lead = _leads(claim, case, task, (smallest, largest))
        if lead is None:
            continue
        leads.append(lead)
        said = [
            f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            for value, (low, high) in zip(lead.values, lead.intervals, strict=True)
        ]
        sentences.append(
            f"{case.title(task)}: the mean lead of {joined(lead.rows)} over {claim.than} is {said[0]} with "
            f"{size_words(smallest)} and {said[1]} with {size_words(largest)}, grown by {said[2]}"
        )
    evidence = _evidence(case, sentences, "", f"an internal row and {claim.than} at both sizes", f"{case.depth} layers")
    lacks = case.lacks(claim.glue, (*claim.rows, claim.than), (smallest, FULL))
    if smallest == FULL or int(smallest) > claim.examples:
        lacks.append(Lack("size", f"students of at most {claim.examples:,} training examples"))
    if lacks:
        return Judgement(NOT_SHOWN, evidence, needs(lacks))
    whole = len(leads) == len(claim.glue)
    # A lead that grows is a lead: falling behind by less with little data is not what the paper says.
    if whole and all(lead.growth[0] > 0 and lead.small[0] > 0 for lead in leads):
        return Judgement(REPRODUCED, evidence)
    if whole and all(lead.growth[1] < 0 for lead in leads):
        return Judgement(CONTRADICTED, evidence)
    return Judgement(
        NOT_SHOWN, evidence, "More seeds at both ends: on every task a lead with little data, and its growth, above 0."
    )


@dataclass(frozen=True)
class _Leads:
    """The mean lead of rows over a baseline at two sizes: values and intervals of the small, the large, the growth."""

    rows: tuple[str, ...]
    values: tuple[float, float, float]
    intervals: tuple[tuple[float, float], ...]

    @property
    def small(self) -> tuple[float, float]:
        """The interval of the lead at the smaller size."""
        return self.intervals[0]

    @property
    def growth(self) -> tuple[float, float]:
        """The interval of the smaller size's lead minus the larger's."""
        return self.intervals[2]


def _leads(claim: Claim, case: Case, task: str, sizes: tuple[str, str]) -> _Leads | None:
    # The mean of the rows that both sizes have: the ends would else be of different methods, and a best row chosen at
    # each end would grow with the noise of small sets.
    found = [{arm.cell.id: arm for arm in case.arms_of(task, (*claim.rows, claim.than), size)} for size in sizes]
    rows = tuple(row for row in claim.rows if all(row in end for end in found))
    if not rows or not all(claim.than in end for end in found):
        return None
    ends = [[end[row] for row in (*rows, claim.than)] for end in found]
    small, large = (float(np.mean([arm.mean or 0.0 for arm in end[:-1]])) - (end[-1].mean or 0.0) for end in ends)
    spreads = [[arm.spread for arm in end] for end in ends]
    bounds = [
        joint_interval(_lead, spreads[0]),
        joint_interval(_lead, spreads[1]),
        joint_interval(_growth, [*spreads[0], *spreads[1]]),
    ]
    known = tuple(found for found in bounds if found is not None)
    return _Leads(rows, (small, large, small - large), known) if len(known) == len(bounds) else None


def _lead(*means: np.ndarray) -> np.ndarray:
    """Return the rows' mean minus the baseline, which comes last."""
    return np.asarray(np.mean(means[:-1], axis=0) - means[-1])


def _growth(*means: np.ndarray) -> np.ndarray:
    half = len(means) // 2
    return _lead(*means[:half]) - _lead(*means[half:])


def _judge_parameters(claim: Claim, case: Case) -> Judgement:
    found: dict[int, set[int]] = {}
    layers = teacher_layers(case.study)
    for finished in case.evidence.finished.values():
        depth = cell_of_run(finished.run, layers)[3]
        if depth is not None and finished.record.get("encoder_parameters"):
            found.setdefault(depth, set()).add(finished.record["encoder_parameters"])
    seen = {depth: sorted(found[depth]) for depth in claim.values if depth in found}
    counted = "; ".join(f"{d} layers: {', '.join(f'{n:,}' for n in counts)}" for d, counts in seen.items())
    evidence = f"{counted or f'No finished run of {joined([str(d) for d in claim.values])} layers'}."
    if lacks := case.encoder_lacks():
        return Judgement(NOT_SHOWN, evidence, needs(lacks))
    if set(seen) != set(claim.values):
        return Judgement(NOT_SHOWN, evidence, f"Finished runs of {joined([str(d) for d in claim.values])} layers.")
    same = all(round(n / 1e6, 1) == claim.values[depth] for depth, counts in seen.items() for n in counts)
    return Judgement(REPRODUCED if same else CONTRADICTED, evidence)


def _evidence(case: Case, sentences: Sequence[str], overall: str, wanted: str, place: str = "") -> str:
    """Return the evidence task by task with where it is from, or what no task of the claim has."""
    if not sentences:
        return f"No task of the claim has finished runs of {wanted} here."
    parts = [*sentences, overall] if overall else list(sentences)
    return f"At {place or case.place}: {'; '.join(parts)}."
