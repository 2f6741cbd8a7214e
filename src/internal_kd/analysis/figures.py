"""The main figure: every seed, the mean and its interval for each method, beside the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.analysis.built import figure_paths, recorded_key
from internal_kd.analysis.cells import FULL, Cell, cells_of
from internal_kd.analysis.layout import examples_text, layers_text, metric_title
from internal_kd.analysis.plotting import legend_below, panels, save
from internal_kd.analysis.predictions import TaskFacts, read_facts
from internal_kd.analysis.scores import Score, read_scores
from internal_kd.analysis.summaries import NOTHING, CellSummary, Summaries, read_summaries
from internal_kd.analysis.tables import base_metric
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The students of the paper's main table [paper]: of several depths the one the figures show.
PAPER_DEPTH = 6


@dataclass(frozen=True)
class Numbers:
    """What the figures show: scores per seed and summaries, by (task, method, depth, examples, metric)."""

    facts: dict[str, TaskFacts]
    cells: tuple[Cell, ...]
    summaries: Summaries
    scores: dict[tuple[str, ...], list[Score]]

    def main_metric(self, task: str) -> str:
        """Return a task's first metric."""
        return self.facts[task].scored[0][0]

    def summary(self, cell: Cell) -> CellSummary:
        """Return a cell's summary under its task's main metric."""
        return self.summaries.get((*cell.key, self.main_metric(cell.task)), NOTHING)


def read_numbers(study: Study) -> Numbers:
    """Read scores.csv and cells.csv.

    Raises:
        UserError: one of them is missing or not whole.
    """
    scores: dict[tuple[str, ...], list[Score]] = {}
    for score in read_scores(study):
        scores.setdefault((*score.key, score.metric), []).append(score)
    facts = {name: read_facts(tokens) for name, tokens in study.tasks.items()}
    return Numbers(facts, cells_of(study), read_summaries(study), scores)


def scale_of(metric: str) -> float:
    """Return 100 for scores shown in per cent, 1 for errors."""
    return 100.0 if HIGHER_IS_BETTER[base_metric(metric)] else 1.0


def axis_title(metric: str) -> str:
    """Return an axis label with its unit."""
    return f"{metric_title(metric)} × 100 (dev)" if scale_of(metric) == 100 else f"{metric_title(metric)} (dev)"


def shown_size(study: Study) -> str:
    """Return the training-set size of the main figure: full where the study has it, else the largest."""
    sizes = study.params.study.examples
    return FULL if FULL in sizes else str(max(n for n in sizes if isinstance(n, int)))


def shown_depth(study: Study) -> int:
    """Return the depth of the main figure: the paper's 6 layers where the study has them, else its deepest students."""
    depths = study.params.study.depths
    return PAPER_DEPTH if PAPER_DEPTH in depths else max(depths)


def title_panel(axis: Axes, facts: TaskFacts, depth: int | None, size: str | None) -> None:
    """Write a task's title over a panel, and below it which students it shows; None for what the panel varies."""
    shown = [] if depth is None else [layers_text(depth)]
    shown += [] if size is None else [examples_text(size, facts.rows.get("train"))]
    axis.set_title(facts.title, loc="left", fontweight="bold", pad=15)
    axis.annotate(
        f"Students: {', '.join(shown)}", (0, 1), xytext=(0, 4), xycoords="axes fraction", textcoords="offset points",
        fontsize=8, color="#444444",
    )  # fmt: skip


def plot_main(study: Study) -> Path:
    """Draw, per task, every seed, the mean and its 95 % interval for each method, beside the teacher."""
    key, numbers = recorded_key(study), read_numbers(study)
    depth, size = shown_depth(study), shown_size(study)
    tasks = list(study.tasks)
    columns = min(2, len(tasks))
    rows = -(-len(tasks) // columns)
    lines = 1 + len(study.methods)
    figure, axes = panels(rows, columns, 5.4 if columns == 1 else 4.6, 0.9 + 0.33 * lines)
    flat = [axis for line in axes for axis in line]
    for position, (axis, task) in enumerate(zip(flat, tasks, strict=False)):
        cells = [
            c for c in numbers.cells if c.task == task and (c.is_teacher or (c.depth, c.examples) == (depth, size))
        ]
        _draw_methods(axis, numbers, cells, names=position % columns == 0)
        title_panel(axis, numbers.facts[task], depth, size)
        axis.set_xlabel(axis_title(numbers.main_metric(task)))
    for axis in flat[len(tasks) :]:
        axis.axis("off")
    legend_below(figure, _main_legend(), columns=4)
    save(figure, study, "main", key)
    return figure_paths(study, "main")[0]


def _draw_methods(axis: Axes, numbers: Numbers, cells: Sequence[Cell], *, names: bool) -> None:
    metric = numbers.main_metric(cells[0].task)
    scale = scale_of(metric)
    for height, cell in enumerate(cells):
        summary = numbers.summary(cell)
        values = [scale * s.value for s in numbers.scores.get((*cell.key, metric), []) if s.value is not None]
        axis.scatter(
            values,
            [height + 0.27] * len(values),
            s=20,
            facecolors="none",
            edgecolors="#666666",
            linewidths=0.9,
            zorder=2,
        )
        if summary.mean is None:
            why = "not run yet" if not summary.seeds else "undefined"
            axis.text(0.02, height, why, transform=axis.get_yaxis_transform(), va="center", fontsize=8, style="italic")
            continue
        if summary.low is not None and summary.high is not None:
            axis.hlines(height, scale * summary.low, scale * summary.high, color="black", linewidth=1.6, zorder=3)
        axis.plot(scale * summary.mean, height, "D", color="black", markersize=5, zorder=4)
        if cell.is_teacher:
            axis.axvline(scale * summary.mean, color="#0072B2", linestyle="--", linewidth=1, zorder=1)
    if all(numbers.summary(cell).mean is None for cell in cells):
        axis.set_xticks([])
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.set_yticks(range(len(cells)), [f"{c.id}  {c.title}" for c in cells] if names else [c.id for c in cells])
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.margins(x=0.06)


def _main_legend() -> list[object]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], linestyle="none", marker="o", markerfacecolor="none", markeredgecolor="#666666", label="one seed"
        ),
        Line2D([], [], linestyle="none", marker="D", color="black", markersize=5, label="mean"),
        Line2D([], [], color="black", linewidth=1.6, label="95 % interval"),
        Line2D([], [], color="#0072B2", linestyle="--", linewidth=1, label="teacher's mean"),
    ]
