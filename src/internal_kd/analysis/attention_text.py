"""The attention table as people read it, and what it shows in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from internal_kd.analysis.attention_rows import AttentionRow
from internal_kd.analysis.cells import joined
from internal_kd.analysis.layout import depth_text, size_text
from internal_kd.analysis.predictions import TaskFacts
from internal_kd.analysis.text_tables import TextTable

NOTES = (
    "Attention KL: KL(teacher || student) of the attention probabilities before dropout, in nats, averaged over real "
    "query tokens as in the loss, here also over heads and matched layers. Both models in eval mode and fp32, on the "
    "same dev examples. One student a method: that of the first seed whose weights are kept, so intervals (95 %, "
    "bootstrap over examples) say nothing of other seeds. Ratio: to the mean of the row named, with the same draws for "
    "both. By layer: student layer → teacher layer. attention.csv has every head.",
)


def attention_text(tasks: Mapping[str, TaskFacts], rows: Sequence[AttentionRow]) -> TextTable:
    """Return every student laid out."""
    header = ("task", "id", "method", "layers", "seed", "dev examples", "attention KL", "ratio", "by layer")
    return TextTable(header, tuple(_line(tasks[row.task], row) for row in rows), "lllrrrrrl", NOTES)


def _line(facts: TaskFacts, row: AttentionRow) -> tuple[str, ...]:
    named = (facts.title, row.id or "–", row.method + size_text(row.examples), depth_text(row.depth))
    seed = "–" if row.seed is None else str(row.seed)
    if row.kl is None:
        return (*named, seed, "0", "–", "–", row.problem)
    is_other = row.ratio is not None and row.id != row.baseline
    ratio = f"{_ratio_text(row)} of {row.baseline}" if is_other else "–"
    layers = ", ".join(f"{own} → {taught}: {kl_text(kl)}" for own, taught, kl in row.by_layer)
    return (*named, seed, str(row.dev_examples), _between(row.kl, row.low, row.high), ratio, layers)


def _ratio_text(row: AttentionRow) -> str:
    return "" if row.ratio is None else _between(row.ratio, row.ratio_low, row.ratio_high)


def _between(value: float, low: float | None, high: float | None) -> str:
    around = "" if low is None or high is None else f" ({kl_text(low)} to {kl_text(high)})"
    return kl_text(value) + around


def kl_text(value: float) -> str:
    """Return a divergence or a ratio with as many digits as matter."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def sentences(tasks: Mapping[str, TaskFacts], rows: Sequence[AttentionRow]) -> list[str]:
    """Return a paragraph for each task of which something was measured: how far the students' maps are off."""
    paragraphs = []
    for task, facts in tasks.items():
        own = [row for row in rows if row.task == task]
        known = [row for row in own if row.kl is not None]
        if not known:
            continue
        layers = len(known[0].by_layer)
        maps = f"{layers} matched {'layer' if layers == 1 else 'layers'} of {known[0].heads} heads"
        said = [
            f"{facts.title}. Mean attention KL to the teacher over {maps} and {known[0].dev_examples} dev examples:"
        ]
        said.append("; ".join(_said(row) for row in known) + ".")
        if absent := [row.id or row.method for row in own if row.kl is None]:
            said.append(f"Not measured: {joined(absent)}.")
        paragraphs.append(" ".join(said))
    return paragraphs


def _said(row: AttentionRow) -> str:
    nats = f"{row.id or row.method}: {kl_text(row.kl or 0.0)} nats"
    if row.ratio is None or not row.id or row.id == row.baseline:
        return nats
    between = (
        "" if row.ratio_low is None else f" (95 % interval {kl_text(row.ratio_low)} to {kl_text(row.ratio_high or 0)})"
    )
    return f"{nats}, {kl_text(row.ratio)} times that of {row.baseline}{between}"
