"""The report's first lines: does it help, by how much, how surely, and what does a student cost; a line a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from internal_kd.analysis.cells import STANDARD, joined
from internal_kd.analysis.efficiency import EfficiencyRow
from internal_kd.analysis.figures import shown_depth, shown_size
from internal_kd.analysis.latency import BATCH, ONE
from internal_kd.analysis.layout import layers_text, metric_title, percent, size_text, value_text
from internal_kd.analysis.sentences import (
    BETTER,
    NONE,
    NOT_RUN,
    NOT_TESTED,
    ONE_SEED,
    UNDEFINED,
    WORSE,
    difference_text,
    kept_text,
    reading_of,
)
from internal_kd.analysis.statistics import Comparison
from internal_kd.analysis.summaries import NOTHING, Summaries
from internal_kd.analysis.tables import MainRow, MainTable, base_metric
from internal_kd.analysis.text_tables import TextTable
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER

NOTE = (
    "The best row is the one with the best mean, chosen on the same dev set, so its lead is a little optimistic; "
    "all rows, and when a difference counts as shown, stand below. Kept: its mean as a share of the teacher's, with "
    "the 95 % interval; a teacher of one seed is taken as it is. Parameters: encoder and pooler, beside the teacher's."
)


@dataclass(frozen=True)
class Answer:
    """One sentence on all tasks, and a table with a line for each; without lines where nothing can be compared."""

    sentence: str
    table: TextTable


def answer_of(
    study: Study,
    table: MainTable,
    comparisons: Sequence[Comparison],
    summaries: Summaries,
    efficiency: Sequence[EfficiencyRow],
) -> Answer:
    """Hold the rows that learn internal representations against soft labels, at the depth and size of the figures."""
    place = (shown_depth(study), shown_size(study))
    measured = {(row.task, row.metric, row.method, row.depth, row.examples): row for row in efficiency}
    readings, lines = [], []
    for task, facts in table.tasks.items():
        metric = facts.scored[0][0]
        cells = {c.method: c for c in table.cells if c.task == task and (c.depth, c.examples) == place and c.internal}
        asked = [
            c
            for c in comparisons
            if (c.task, c.metric, (c.depth, c.examples), c.baseline_id) == (task, metric, place, STANDARD)
            and c.method in cells
        ]
        readings += [reading_of(c) for c in asked]
        found = [c for c in asked if c.difference is not None]
        if not found:
            continue
        sign = 1 if HIGHER_IS_BETTER[base_metric(metric)] else -1
        best = max(found, key=lambda c: sign * (c.difference or 0.0))
        cell = cells[best.method]
        row, costs = table.row(cell, metric), measured[task, metric, best.method, *place]
        lines.append(
            (
                f"{facts.title} ({metric_title(metric)})",
                _score(_standard(table, task, metric, place, best.baseline)),
                f"{best.id} {cell.title}: {_score(row)}",
                difference_text(best),
                reading_of(best),
                kept_text(row, summaries.get((*cell.key, metric), NOTHING)),
                percent(costs.encoder_share),
                f"{_times(costs.speed_up)} / {_times(costs.speed_up_batch)}",
            )
        )
    header = (
        "task", f"soft labels ({STANDARD})", "best internal row", "its lead", "reading", "kept", "parameters",
        f"speed-up, {ONE} / {BATCH} examples",
    )  # fmt: skip
    return Answer(_sentence(readings, *place), TextTable(header, tuple(lines), "lllllrrr", (NOTE,) if lines else ()))


def _standard(table: MainTable, task: str, metric: str, place: tuple[int, str], method: str) -> MainRow:
    where = (task, method, *place)
    return table.row(next(c for c in table.cells if (c.task, c.method, c.depth, c.examples) == where), metric)


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1f}×"


def _score(row: MainRow) -> str:
    return f"{value_text(row)} ({row.seeds})"


def _sentence(readings: Sequence[str], depth: int, size: str) -> str:
    where = f"{layers_text(depth)}{size_text(size)}"
    what = f"of a row that learns internal representations with soft labels ({STANDARD})"
    if not readings:
        return f"At {where} this study has no comparison {what}."
    told = {"shown to be better": BETTER, "shown to be worse": WORSE, "with no difference shown": NONE}
    untold = {
        "of which there is one seed": ONE_SEED,
        "without a seed in common": NOT_TESTED,
        "undefined": UNDEFINED,
        "not run yet": NOT_RUN,
    }
    said = [f"{readings.count(reading)} {words}" for words, reading in told.items()]
    said += [f"{readings.count(reading)} {words}" for words, reading in untold.items() if reading in readings]
    comparisons = "comparison" if len(readings) == 1 else "comparisons"
    return f"At {where}, of {len(readings)} {comparisons} {what}, {joined(said)}."
