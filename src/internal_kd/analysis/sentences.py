"""What the numbers show, in sentences: computed from the statistics, and plain about what they do not show."""

from __future__ import annotations

from collections.abc import Sequence

from internal_kd.analysis.cells import STANDARD, UNTAUGHT, Cell, joined
from internal_kd.analysis.layout import metric_title, percent, shown, size_text, value_text
from internal_kd.analysis.outlook import MOST_SEEDS
from internal_kd.analysis.statistics import Comparison
from internal_kd.analysis.summaries import NOTHING, CellSummary, Summaries
from internal_kd.analysis.tables import MainRow, MainTable, base_metric
from internal_kd.tasks import HIGHER_IS_BETTER

SIGNIFICANT = 1e-3

BETTER, WORSE, NONE = "better", "worse", "no difference shown"
NOT_RUN, NOT_TESTED, UNDEFINED = "not run yet", "not tested", "undefined"
ONE_SEED = "one seed: says nothing of other seeds"

INTERVALS_NOTE = (
    "Intervals (95 %): bootstrap over dev examples (2,000 resamples, the same for every method), and over seeds by "
    "their sample variance, widened for few seeds by Student's t (degrees of freedom after Satterthwaite). Where there "
    "is one seed the interval is over examples only and says nothing of other seeds."
)
NAMES = {STANDARD: "standard distillation", UNTAUGHT: "fine-tuning without a teacher"}


def reading_of(comparison: Comparison) -> str:
    """Return "better", "worse", "no difference shown", or why nothing is said of the methods.

    A difference is shown when its interval over examples and seeds leaves 0 out and the corrected p over predictions
    is below 0.001, the paper's threshold. Nothing is said where a side has one seed or none, where no seed is finished
    on both sides, and where a score is undefined.
    """
    c = comparison
    if not (c.seeds and c.baseline_seeds):
        return NOT_RUN
    if c.difference is None or c.low is None or c.high is None:
        return UNDEFINED
    if 1 in (c.seeds, c.baseline_seeds):
        return ONE_SEED
    if c.p_predictions_holm is None:
        return UNDEFINED if c.matched_seeds else NOT_TESTED
    if c.p_predictions_holm >= SIGNIFICANT or not leaves_zero_out(c):
        return NONE
    return BETTER if (c.difference > 0) == HIGHER_IS_BETTER[base_metric(c.metric)] else WORSE


def p_text(p: float | None) -> str:
    """Return a p value for people."""
    if p is None:
        return "–"
    return "< 0.001" if p < SIGNIFICANT else f"{p:.3f}"


def difference_text(comparison: Comparison) -> str:
    """Return ``+1.3 (95 % interval +0.4 to +2.2)`` in points."""
    c = comparison
    between = [shown(c.metric, bound, sign=True) for bound in (c.low, c.high)]
    return f"{shown(c.metric, c.difference, sign=True)} (95 % interval {between[0]} to {between[1]})"


def findings(table: MainTable, comparisons: Sequence[Comparison], summaries: Summaries) -> list[str]:
    """Return one paragraph per task, depth and size: every method against its baselines, and what is kept."""
    paragraphs = []
    for task, facts in table.tasks.items():
        metric = facts.scored[0][0]
        students = [cell for cell in table.cells if cell.task == task and not cell.is_teacher]
        for depth, examples in dict.fromkeys((cell.depth, cell.examples) for cell in students):
            own = [cell for cell in students if (cell.depth, cell.examples) == (depth, examples)]
            where = (task, metric, depth, examples)
            group = [c for c in comparisons if (c.task, c.metric, c.depth, c.examples) == where]
            said = [*_comparisons(own, group), _alone(own, group), _kept(table, own, metric, summaries)]
            size = size_text(examples)
            place = f"{facts.title}, {depth} {'layer' if depth == 1 else 'layers'}{size} ({metric_title(metric)})"
            paragraphs.append(" ".join([f"{place}.", *filter(None, said)]))
    return paragraphs


def _comparisons(cells: Sequence[Cell], group: Sequence[Comparison]) -> list[str]:
    """Say every comparison, those with row 2.0 only of methods that have no other baseline."""
    elsewhere = {c.method for c in group if c.baseline_id != UNTAUGHT}
    told = [c for c in group if c.baseline_id != UNTAUGHT or c.method not in elsewhere]
    titles = {cell.method: cell.title for cell in cells}
    return [
        _against(f"{NAMES.get(own[0].baseline_id, titles[baseline])} ({own[0].baseline_id})", own)
        for baseline in dict.fromkeys(c.baseline for c in told)
        if (own := [c for c in told if c.baseline == baseline])
    ]


def _against(baseline: str, comparisons: Sequence[Comparison]) -> str:
    by_reading: dict[str, list[Comparison]] = {}
    for c in comparisons:
        by_reading.setdefault(reading_of(c), []).append(c)
    ids = {reading: joined([c.id for c in found]) for reading, found in by_reading.items()}
    said = []
    better, worse = "scores higher than", "scores lower than"
    if not HIGHER_IS_BETTER[base_metric(comparisons[0].metric)]:
        better, worse = "has a smaller error than", "has a larger error than"
    for kind, verb in ((BETTER, better), (WORSE, worse)):
        said += [f"{c.id} {verb} {baseline} by {difference_text(c)}." for c in by_reading.get(kind, [])]
    if NONE in ids:
        said.append(f"No difference from {baseline} is shown for {ids[NONE]}.")
        said += what_would_decide(by_reading[NONE])
    if ONE_SEED in ids:
        said.append(f"Against {baseline} there is one seed of {ids[ONE_SEED]} or of it, which says nothing of others.")
    if NOT_TESTED in ids:
        said.append(f"No seed is finished of both {baseline} and {ids[NOT_TESTED]}: not tested.")
    if UNDEFINED in ids:
        said.append(f"The difference from {baseline} is undefined for {ids[UNDEFINED]}.")
    if NOT_RUN in ids:
        waiting = f"{len(by_reading[NOT_RUN])} of {len(comparisons)}"
        said.append(f"{waiting} methods cannot be compared with {baseline} yet.")
    return " ".join(said)


def what_would_decide(comparisons: Sequence[Comparison]) -> list[str]:
    """Say of differences that are not shown what is in the way, and what seeds would do if they stayed as they are.

    Seeds narrow an interval as far as the dev examples let them. They do not make p over predictions smaller, which is
    that of a typical pair of equal seeds.
    """
    told = [c for c in comparisons if c.difference and c.many_seeds is not None]
    clear = [c for c in told if leaves_zero_out(c)]
    enough = [c for c in told if c not in clear and c.seeds_needed]
    waiting = [c for c in told if c not in clear and c not in enough]
    never = [c for c in waiting if abs(c.difference or 0.0) <= (c.many_seeds or 0.0)]
    others = [c for c in waiting if c not in never]
    said = []
    if clear:
        ps = joined([p_text(c.p_predictions_holm) for c in clear])
        whose = "interval of {} leaves" if len(clear) == 1 else "intervals of {} leave"
        ids = joined([c.id for c in clear])
        said.append(f"The {whose.format(ids)} 0 out, but p over predictions is {ps} and not below {SIGNIFICANT:g}.")
    if enough:
        seeds = joined([f"{c.seeds_needed} seeds of each side ({c.id})" for c in enough])
        least = p_text(min((c.p_predictions_holm for c in enough if c.p_predictions_holm is not None), default=None))
        said.append(
            f"If they stayed as they are, intervals would leave 0 out with about {seeds}; p over predictions, {least} "
            "at the least, hangs on the dev examples and not on the number of seeds."
        )
    if never:
        left = joined([f"\u00b1 {shown(c.metric, c.many_seeds)}" for c in never])
        said.append(
            f"More seeds alone would not show so small a difference for {joined([c.id for c in never])}: these dev "
            f"examples leave {left}, however many seeds."
        )
    if others:
        ids = joined([c.id for c in others])
        said.append(f"For {ids} more than {MOST_SEEDS:,} seeds of each side would be needed.")
    return said


def leaves_zero_out(comparison: Comparison) -> bool:
    """Whether there is an interval and 0 is outside of it."""
    c = comparison
    return c.low is not None and c.high is not None and not c.low <= 0 <= c.high


def _alone(cells: Sequence[Cell], group: Sequence[Comparison]) -> str:
    compared = {name for c in group for name in (c.method, c.baseline)}
    alone = [cell.id for cell in cells if cell.method not in compared]
    return f"This study has no baseline for {joined(alone)}: nothing to compare with." if alone else ""


def _kept(table: MainTable, cells: Sequence[Cell], metric: str, summaries: Summaries) -> str:
    rows = [(cell, row) for cell in cells if (row := table.row(cell, metric)).teacher_share is not None]
    if not rows:
        return ""
    cell, best = max(rows, key=lambda one: one[1].teacher_share or 0.0)
    seeds = f"{best.seeds} {'seed' if best.seeds == 1 else 'seeds'}"
    lead = ", which by itself shows no lead," if len(rows) > 1 else ""
    kept = kept_text(best, summaries.get((*cell.key, metric), NOTHING))
    return f"The highest mean{lead} is that of {best.id}: {value_text(best)} ({seeds}), {kept} of the teacher's."


def kept_text(row: MainRow, summary: CellSummary) -> str:
    """Return the share of the teacher's score that a row keeps, with its interval where there is one."""
    if summary.share_low is None or summary.share_high is None:
        return percent(row.teacher_share)
    return f"{percent(row.teacher_share)} ({100 * summary.share_low:.0f} to {100 * summary.share_high:.0f} %)"
