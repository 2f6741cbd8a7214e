"""The fidelity tables as people read them, and what they show in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from internal_kd.analysis.cells import UNTAUGHT, joined
from internal_kd.analysis.fidelity_rows import FidelityComparison, FidelityRow
from internal_kd.analysis.layout import depth_text, percent, size_text, task_text
from internal_kd.analysis.predictions import TaskFacts
from internal_kd.analysis.sentences import (
    INTERVALS_NOTE,
    NAMES,
    NOT_RUN,
    NOT_TESTED,
    ONE_SEED,
    SIGNIFICANT,
    UNDEFINED,
    p_text,
)
from internal_kd.analysis.text_tables import TextTable

MORE, LESS, NONE = "more", "less", "not shown"
MORE_ALONE, LESS_ALONE = (f"{kind}; beyond its own errors: not shown" for kind in (MORE, LESS))

FIDELITY_NOTES = (
    "Each student beside the teacher whose outputs it was taught from (row 2.0: beside the same one), on the dev "
    "set; means over seeds, ± sample standard deviation. Right / wrong: share of the examples that both, only the "
    "teacher, only the student, and neither get right. KL: mean of KL(teacher || student) in nats, at temperature "
    "1; for regression the mean squared difference of the two predictions instead.",
    "Repeated: share of the teacher's mistakes (which are the same for all) to which the student gives the "
    "teacher's answer. By chance: what its own answers would make of it if, within each gold label, they had nothing "
    "to do with the teacher's. Excess: "
    f"the difference in points, with its interval. {INTERVALS_NOTE} p: generalised "
    "Cochran-Mantel-Haenszel test with the gold labels as strata, each seed by itself, of several seeds twice the "
    "median, after Holm's correction over the whole table. Odds ratio (Mantel-Haenszel): of being wrong where the "
    "teacher is wrong.",
    "Two models that never met also share mistakes, because some examples are hard. What the teacher adds is the "
    "difference from row 2.0 in fidelity_comparisons.csv.",
)
COMPARISON_NOTES = (
    f"Differences with their intervals. {INTERVALS_NOTE} Agreement with the teacher's answers, in points, and KL to "
    "the teacher in nats (for regression the mean squared difference), which is less for the student nearer to it: no "
    "test is made of these two. Repeated: share of the teacher's mistakes that are repeated, in points; excess: the "
    "same less what each student's own error rates would make of it, so that a student that is only worse does not "
    "look more faithful. p: exact McNemar over the teacher's mistakes, of several pairs of equal seeds twice "
    "the median, after Holm's correction over the whole table.",
    "More or less is said of the mistakes when both sides have several seeds, p is below 0.001 and both intervals "
    "leave 0 out; where only that of the excess does not, that the difference goes beyond the students' own errors is "
    "not shown. Undefined: for regression, and where the teacher makes no mistake. Not tested: no seed is finished on "
    "both sides.",
)


def reading_of_row(row: FidelityRow) -> str:
    """Return whether mistakes are repeated "more" or "less" than chance, "not shown", "undefined" or "not run yet"."""
    if not row.seeds:
        return NOT_RUN
    if row.excess is None or row.excess_low is None or row.excess_high is None or row.p_repeated_holm is None:
        return UNDEFINED
    if row.p_repeated_holm >= SIGNIFICANT or row.excess_low <= 0 <= row.excess_high:
        return NONE
    return MORE if row.excess > 0 else LESS


def reading_of_comparison(c: FidelityComparison) -> str:
    """Return whether the teacher's mistakes are repeated "more" or "less" than by a baseline, or why this is not said.

    "More" alone is also beyond what the students' own errors explain; where that is not shown the reading says so.
    """
    if not (c.seeds and c.baseline_seeds):
        return NOT_RUN
    if c.repeated is None or c.repeated_low is None or c.repeated_high is None:
        return UNDEFINED
    if 1 in (c.seeds, c.baseline_seeds):
        return ONE_SEED
    if c.p_holm is None:
        return NOT_TESTED
    if c.p_holm >= SIGNIFICANT or c.repeated_low <= 0 <= c.repeated_high:
        return NONE
    known = c.excess is not None and c.excess_low is not None and c.excess_high is not None
    sign = 1 if c.repeated > 0 else -1
    beyond = known and min(sign * (c.excess_low or 0), sign * (c.excess_high or 0)) > 0
    if c.repeated > 0:
        return MORE if beyond else MORE_ALONE
    return LESS if beyond else LESS_ALONE


def fidelity_text(tasks: Mapping[str, TaskFacts], rows: Sequence[FidelityRow]) -> TextTable:
    """Return every row laid out; the columns on the same wrong answer only where a task has more than two classes."""
    many = any(tasks[row.task].classes > 2 for row in rows)
    header = (
        "task", "id", "method", "layers", "seeds", "agreement", "KL", "both / teacher / student / none right",
        "teacher's mistakes", "repeated (by chance)", "excess", "odds ratio", "p",
        *(("same wrong answer (by chance)", "p") if many else ()),
    )  # fmt: skip
    lines = tuple(_fidelity_line(tasks[row.task], row, many) for row in rows)
    return TextTable(header, lines, "lll" + "r" * (len(header) - 3), FIDELITY_NOTES)


def _fidelity_line(facts: TaskFacts, row: FidelityRow, many: bool) -> tuple[str, ...]:
    counts = (row.both_right, row.only_teacher_right, row.only_student_right, row.both_wrong)
    whole = sum(count or 0 for count in counts)
    shares = " / ".join(f"{100 * (count or 0) / whole:.0f}" for count in counts) if whole else "–"
    spread = "" if row.agreement_std is None else f" ± {100 * row.agreement_std:.1f}"
    of_divergence = "" if row.divergence_std is None else f" ± {row.divergence_std:.3f}"
    same = (_beside_chance(row.same_wrong, row.same_wrong_by_chance), p_text(row.p_same_wrong_holm))
    return (
        task_text(facts, row.split),
        row.id,
        row.method + size_text(row.examples),
        depth_text(row.depth),
        str(row.seeds),
        percent(row.agreement) + spread,
        "–" if row.divergence is None else f"{row.divergence:.3f}{of_divergence}",
        shares,
        "–" if row.teacher_mistakes is None else str(row.teacher_mistakes),
        _beside_chance(row.repeated, row.by_chance),
        points(row.excess, row.excess_low, row.excess_high),
        _ratio(row.odds_ratio, row.odds_ratio_low, row.odds_ratio_high),
        p_text(row.p_repeated_holm),
        *(same if many else ()),
    )


def fidelity_comparisons_text(tasks: Mapping[str, TaskFacts], comparisons: Sequence[FidelityComparison]) -> TextTable:
    """Return every comparison laid out."""
    header = (
        "where", "rows", "seeds", "agreement", "KL", "repeated", "excess", "p", "repeats the teacher's mistakes",
    )  # fmt: skip
    lines = tuple(
        (
            f"{task_text(tasks[c.task], c.split)}, L{c.depth}{size_text(c.examples)}",
            f"{c.id} – {c.baseline_id}",
            f"{c.seeds} / {c.baseline_seeds}",
            points(c.agreement, c.agreement_low, c.agreement_high),
            nats(c.divergence, c.divergence_low, c.divergence_high),
            points(c.repeated, c.repeated_low, c.repeated_high),
            points(c.excess, c.excess_low, c.excess_high),
            p_text(c.p_holm),
            reading_of_comparison(c),
        )
        for c in comparisons
    )
    return TextTable(header, lines, "lrrrrrrrl", COMPARISON_NOTES)


def sentences(
    tasks: Mapping[str, TaskFacts], rows: Sequence[FidelityRow], comparisons: Sequence[FidelityComparison]
) -> list[str]:
    """Return one paragraph per task, dev set, depth and size: are the teacher's mistakes repeated, and by whom more."""
    paragraphs = []
    students = [row for row in rows if row.teacher_mistakes is not None and row.method != "teacher"]
    for place in dict.fromkeys((row.task, row.split, row.depth, row.examples) for row in students):
        own = [row for row in students if (row.task, row.split, row.depth, row.examples) == place]
        pairs = [c for c in comparisons if (c.task, c.split, c.depth, c.examples) == place]
        facts, (_, split, depth, examples) = tasks[place[0]], place
        where = f"{task_text(facts, split)}, {depth} {'layer' if depth == 1 else 'layers'}{size_text(examples)}"
        said = [_against_chance(own)]
        said += [_against(pairs, baseline) for baseline in dict.fromkeys(c.baseline_id for c in pairs)]
        wrong = f"The teacher gets {own[0].teacher_mistakes} of {facts.rows[split]} dev examples wrong."
        paragraphs.append(" ".join([f"{where}. {wrong}", *filter(None, said)]))
    return paragraphs


def _against_chance(rows: Sequence[FidelityRow]) -> str:
    more = [
        f"{row.id} ({percent(row.repeated)}, chance {percent(row.by_chance)}{'; one seed' if row.seeds == 1 else ''})"
        for row in rows
        if _is_more(row)
    ]
    none = [row.id for row in rows if reading_of_row(row) == NONE]
    said = [f"More of these mistakes than chance would make are repeated by {joined(more)}."] if more else []
    said += [f"That any are repeated beyond chance is not shown for {joined(none)}."] if none else []
    said += ["There is no mistake to repeat."] if not rows[0].teacher_mistakes else []
    return " ".join(said)


def _is_more(row: FidelityRow) -> bool:
    return reading_of_row(row) == MORE


def _against(pairs: Sequence[FidelityComparison], baseline: str) -> str:
    own = [c for c in pairs if c.baseline_id == baseline]
    name = f"{NAMES.get(baseline, 'row')} ({baseline})"
    said = []
    for reading, start in (
        (MORE, f"More often than {name}"),
        (LESS, f"Less often than {name}"),
        (MORE_ALONE, f"More often than {name}, but beyond their own errors not shown"),
        (LESS_ALONE, f"Less often than {name}, but beyond their own errors not shown"),
    ):
        if found := [_mistakes(c) for c in own if reading_of_comparison(c) == reading]:
            said.append(f"{start}: {'; '.join(found)}.")
    if none := [c.id for c in own if reading_of_comparison(c) == NONE]:
        said.append(f"No difference from {name} is shown for {joined(none)}.")
    if alone := [c.id for c in own if reading_of_comparison(c) == ONE_SEED]:
        said.append(f"Against {name} there is one seed of {joined(alone)} or of it, which says nothing of others.")
    if apart := [c.id for c in own if reading_of_comparison(c) == NOT_TESTED]:
        said.append(f"Not tested against {name}, for want of a seed in common: {joined(apart)}.")
    # A student that never met the teacher is farther from it as a matter of course: the table has those differences.
    known = [c for c in own if c.divergence is not None and baseline != UNTAUGHT]
    if near := [f"{c.id} {nats(c.divergence, c.divergence_low, c.divergence_high)}" for c in known]:
        said.append(f"KL to the teacher less that of {name}: {'; '.join(near)}.")
    return " ".join(said)


def _mistakes(c: FidelityComparison) -> str:
    excess = points(c.excess, c.excess_low, c.excess_high)
    return f"{c.id} by {points(c.repeated, c.repeated_low, c.repeated_high)} points, beyond its own errors {excess}"


def points(value: float | None, low: float | None, high: float | None) -> str:
    """Return a difference of shares in points with its interval, or a dash."""
    if value is None:
        return "–"
    between = "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * value:+.1f}{between}"


def nats(value: float | None, low: float | None, high: float | None) -> str:
    """Return a difference of divergences with its interval, or a dash."""
    if value is None:
        return "–"
    between = "" if low is None or high is None else f" ({low:+.3f} to {high:+.3f})"
    return f"{value:+.3f}{between}"


def _beside_chance(share: float | None, chance: float | None) -> str:
    return percent(share) if chance is None else f"{percent(share)} ({percent(chance)})"


def _ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    between = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    return ("∞" if value == float("inf") else f"{value:.1f}") + between
