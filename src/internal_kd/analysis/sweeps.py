"""The figures over a sweep: score against a student's size and latency, and against the number of training examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.analysis.built import figure_names, figure_paths, recorded_key
from internal_kd.analysis.cells import FULL, Cell
from internal_kd.analysis.figures import (
    Numbers,
    axis_title,
    read_numbers,
    scale_of,
    shown_depth,
    shown_size,
    title_panel,
)
from internal_kd.analysis.latency import ONE, LatencyRow, read_latencies
from internal_kd.analysis.plotting import legend_below, panels, plain_ticks, save, say_empty, style_of
from internal_kd.analysis.tables import base_metric
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Where a cell stands on the x axis; None when it does not belong to the figure.
Place = Callable[[Numbers, Cell], float | None]
# From where to where a cell's place may be.
Spread = Callable[[Cell], tuple[float, float] | None]
FRONT: dict[str, Any] = {"color": "#bbbbbb", "linewidth": 5, "alpha": 0.7, "zorder": 0, "solid_capstyle": "round"}
# More bands than these hide each other; cells.csv has every interval.
MOST_BANDS = 4
RING: dict[str, Any] = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgecolor": "#666666"}


@dataclass(frozen=True)
class Panel:
    """What a panel shows scores against; ``empty`` is said where it has no points, ``front`` marks the Pareto front."""

    place: Place
    xlabel: str
    log: bool = False
    empty: str = "not run yet"
    front: bool = False
    spread: Spread | None = None


def plot_depth(study: Study) -> Path | None:
    """Draw score against encoder parameters and against measured latency; None where there is one depth only."""
    if "depth" not in figure_names(study):
        return None
    size, latencies = shown_size(study), read_latencies(study)

    def parameters(numbers: Numbers, cell: Cell) -> float | None:
        scores = numbers.scores.get((*cell.key, numbers.main_metric(cell.task)), [])
        counts = [score.encoder_parameters for score in scores if score.encoder_parameters]
        return counts[0] / 1e6 if counts and (cell.is_teacher or cell.examples == size) else None

    def measured(cell: Cell) -> LatencyRow | None:
        shown = cell.is_teacher or cell.examples == size
        return latencies.get((cell.task, cell.depth or 0, ONE)) if shown else None

    def milliseconds(numbers: Numbers, cell: Cell) -> float | None:
        row = measured(cell)
        return row.median_ms if row else None

    def quartiles(cell: Cell) -> tuple[float, float] | None:
        row = measured(cell)
        return (row.low_ms, row.high_ms) if row else None

    of_latency = Panel(
        milliseconds, "milliseconds for one example (one thread)", empty="not measured", front=True, spread=quartiles
    )
    of_parameters = Panel(parameters, "encoder parameters, millions (without embeddings)")
    return _plot(study, "depth", (of_parameters, of_latency), size=size)


def plot_size(study: Study) -> Path | None:
    """Draw score against the number of training examples; None where there is one size only."""
    if "size" not in figure_names(study):
        return None
    depth = shown_depth(study)

    def place(numbers: Numbers, cell: Cell) -> float | None:
        if not cell.is_teacher and cell.depth != depth:
            return None
        rows = numbers.facts[cell.task].rows.get("train")
        return rows if cell.examples == FULL else float(cell.examples)

    return _plot(study, "size", (Panel(place, "training examples", log=True),), depth=depth)


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (cost, score) points that no other one beats in score without a higher cost, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _plot(
    study: Study, name: str, shown: Sequence[Panel], *, depth: int | None = None, size: str | None = None
) -> Path:
    key, numbers = recorded_key(study), read_numbers(study)
    drawn = [(task, panel) for task in study.tasks for panel in shown]
    columns = min(2, len(drawn))
    figure, axes = panels(-(-len(drawn) // columns), columns, 4.6, 3.2)
    flat = [axis for line in axes for axis in line]
    for axis, (task, panel) in zip(flat, drawn, strict=False):
        axis.set_xscale("log" if panel.log else "linear")
        _draw_task(axis, numbers, task, list(study.methods), panel)
        title_panel(axis, numbers.facts[task], depth, size)
        axis.set_xlabel(panel.xlabel)
        axis.set_ylabel(axis_title(numbers.main_metric(task)))
        if not axis.lines:
            say_empty(axis, panel.empty)
        elif panel.log:
            plain_ticks(axis.xaxis)
        axis.grid(color="#dddddd", linewidth=0.6)
    for axis in flat[len(drawn) :]:
        axis.axis("off")
    legend_below(figure, _legend(study, front=any(panel.front for panel in shown)))
    save(figure, study, name, key)
    return figure_paths(study, name)[0]


def _draw_task(axis: Axes, numbers: Numbers, task: str, methods: list[str], panel: Panel) -> None:
    place = panel.place
    scale = scale_of(numbers.main_metric(task))
    for position, method in enumerate(methods):
        points = []
        for cell in (c for c in numbers.cells if c.task == task and c.method == method):
            x, summary = place(numbers, cell), numbers.summary(cell)
            if x is not None and summary.mean is not None:
                low, high = (summary.mean if bound is None else bound for bound in (summary.low, summary.high))
                points.append((x, scale * summary.mean, scale * low, scale * high))
        if points:
            xs, means, lows, highs = (list(values) for values in zip(*sorted(points), strict=True))
            style = style_of(position)
            axis.plot(xs, means, markersize=5, linewidth=1.4, **style)
            if len(methods) <= MOST_BANDS:
                axis.fill_between(xs, lows, highs, color=style["color"], alpha=0.1, linewidth=0)
    for cell in (c for c in numbers.cells if c.task == task and c.is_teacher):
        mean_of_teacher, x_of_teacher = numbers.summary(cell).mean, place(numbers, cell)
        if mean_of_teacher is not None and (axis.lines or x_of_teacher is not None):
            axis.axhline(scale * mean_of_teacher, color="black", linestyle="--", linewidth=1)
        if mean_of_teacher is not None and x_of_teacher is not None:
            axis.plot(x_of_teacher, scale * mean_of_teacher, "*", color="black", markersize=11)

    if panel.front:
        _mark_front(axis, numbers, task, panel)


def _mark_front(axis: Axes, numbers: Numbers, task: str, panel: Panel) -> None:
    metric = numbers.main_metric(task)
    scale, sign = scale_of(metric), 1.0 if HIGHER_IS_BETTER[base_metric(metric)] else -1.0
    points = []
    for cell in (c for c in numbers.cells if c.task == task):
        x, mean = panel.place(numbers, cell), numbers.summary(cell).mean
        if x is not None and mean is not None:
            points.append((x, sign * scale * mean))
            if panel.spread and (quartiles := panel.spread(cell)):
                axis.hlines(scale * mean, *quartiles, color="#888888", linewidth=0.8, zorder=1)
    if front := pareto_front(points):
        xs, ys = [x for x, _ in front], [sign * y for _, y in front]
        axis.plot(xs, ys, drawstyle="steps-post", **FRONT)
        axis.plot(xs, ys, linestyle="none", zorder=0, **RING)


def _legend(study: Study, *, front: bool) -> list[object]:
    from matplotlib.lines import Line2D

    methods = [
        Line2D([], [], **style_of(n), markersize=5, label=f"{m.id} {m.title}")
        for n, m in enumerate(study.methods.values())
    ]
    teacher = Line2D([], [], color="black", linestyle="--", marker="*", markersize=9, label="teacher")
    of_front = Line2D([], [], **FRONT, **RING, label="Pareto front")
    return [*methods, teacher, *([of_front] if front else [])]
