"""What the numbers show, in sentences: computed from the statistics, and plain about what they do not show."""

from __future__ import annotations

from collections.abc import Sequence

from internal_kd.analysis.cells import joined
from internal_kd.analysis.layout import metric_title, shown
from internal_kd.analysis.predictions import TaskFacts
from internal_kd.analysis.statistics import Comparison
from internal_kd.analysis.tables import MainTable, base_metric
from internal_kd.tasks import HIGHER_IS_BETTER

SIGNIFICANT = 1e-3
STANDARD = "3.0"
UNTAUGHT = "2.0"


def reading_of(comparison: Comparison) -> str:
    """Return "better", "worse", "no difference shown", or "not run yet".

    A difference is shown when its interval over examples and seeds leaves 0 out and the corrected p over predictions
    is below 0.001, the paper's threshold.
    """
    c = comparison
    if c.difference is None or c.low is None or c.high is None:
        return "not run yet" if not (c.seeds and c.baseline_seeds) else "undefined"
    corrected = c.p_predictions_holm
    if corrected is None or corrected >= SIGNIFICANT or c.low <= 0 <= c.high:
        return "no difference shown"
    return "better" if (c.difference > 0) == HIGHER_IS_BETTER[base_metric(c.metric)] else "worse"


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


def findings(table: MainTable, comparisons: Sequence[Comparison]) -> list[str]:
    """Return one paragraph per task, depth and size: internal against standard distillation, and what is kept."""
    paragraphs = []
    for task, facts in table.tasks.items():
        metric = facts.scored[0][0]
        own = [c for c in comparisons if (c.task, c.metric) == (task, metric)]
        for depth, examples in dict.fromkeys((c.depth, c.examples) for c in own):
            group = [c for c in own if (c.depth, c.examples) == (depth, examples)]
            paragraphs.append(_paragraph(table, facts, metric, depth, examples, group))
    return paragraphs


def _paragraph(
    table: MainTable, facts: TaskFacts, metric: str, depth: int | None, examples: str, group: Sequence[Comparison]
) -> str:
    where = f"{facts.title}, {depth} {'layer' if depth == 1 else 'layers'}" + (
        "" if examples == "full" else f", {examples} training examples"
    )
    internal = [c for c in group if c.baseline_id == STANDARD]
    plain = [c for c in group if c.id == STANDARD and c.baseline_id == UNTAUGHT]
    parts = [_against_standard(internal)] if internal else []
    parts += [_standard_against_untaught(c) for c in plain]
    if kept := _kept(table, facts.name, metric, depth, examples):
        parts.append(kept)
    return f"{where} ({metric_title(metric)}). " + " ".join(parts)


def _against_standard(internal: Sequence[Comparison]) -> str:
    readings = {
        kind: [c for c in internal if reading_of(c) == kind] for kind in ("better", "worse", "no difference shown")
    }
    said = []
    for kind, verb in (("better", "scores higher than"), ("worse", "scores lower than")):
        said += [f"{c.id} {verb} standard distillation (3.0) by {difference_text(c)}." for c in readings[kind]]
    if none := readings["no difference shown"]:
        said.append(f"No difference from standard distillation (3.0) is shown for {joined([c.id for c in none])}.")
    if waiting := len(internal) - sum(len(found) for found in readings.values()):
        said.append(f"{waiting} of {len(internal)} methods cannot be compared yet.")
    return " ".join(said)


def _standard_against_untaught(comparison: Comparison) -> str:
    reading = reading_of(comparison)
    if reading in ("better", "worse"):
        verb = "higher" if reading == "better" else "lower"
        by = difference_text(comparison)
        return f"Standard distillation scores {verb} than fine-tuning without a teacher (2.0) by {by}."
    if reading == "no difference shown":
        return "No difference is shown between standard distillation and fine-tuning without a teacher (2.0)."
    return ""


def _kept(table: MainTable, task: str, metric: str, depth: int | None, examples: str) -> str:
    rows = [
        row
        for row in table.rows
        if (row.task, row.metric, row.depth, row.examples) == (task, metric, depth, examples)
        and row.teacher_share is not None
        and row.id != "1.0"
    ]
    if not rows:
        return ""
    best = max(rows, key=lambda row: row.teacher_share or 0.0)
    kept = f"{100 * (best.teacher_share or 0):.0f} % of the teacher's"
    return f"The highest mean is that of {best.id}: {shown(metric, best.mean)}, {kept}."
