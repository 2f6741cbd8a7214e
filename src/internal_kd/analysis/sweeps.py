"""The figures over a sweep: score against a student's parameters, and against the number of training examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.analysis.built import figure_names, figure_paths, recorded_key
from internal_kd.analysis.cells import FULL, Cell
from internal_kd.analysis.figures import Numbers, axis_title, read_numbers, scale_of, shown_depth, shown_size
from internal_kd.analysis.plotting import legend_below, panels, plain_ticks, save, say_empty, style_of
from internal_kd.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Where a cell stands on the x axis; None when it does not belong to the figure.
Place = Callable[[Numbers, Cell], float | None]


def plot_depth(study: Study) -> Path | None:
    """Draw score against encoder parameters over the study's depths; None where there is one depth only."""
    if "depth" not in figure_names(study):
        return None
    size = shown_size(study)

    def place(numbers: Numbers, cell: Cell) -> float | None:
        scores = numbers.scores.get((*cell.key, numbers.main_metric(cell.task)), [])
        counts = [score.encoder_parameters for score in scores if score.encoder_parameters]
        return counts[0] / 1e6 if counts and (cell.is_teacher or cell.examples == size) else None

    return _plot(study, "depth", place, "encoder parameters, millions (without embeddings)", log=False)


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

    return _plot(study, "size", place, "training examples", log=True)


def _plot(study: Study, name: str, place: Place, xlabel: str, *, log: bool) -> Path:
    key, numbers = recorded_key(study), read_numbers(study)
    columns = min(2, len(study.tasks))
    figure, axes = panels(-(-len(study.tasks) // columns), columns, 4.6, 3.2)
    flat = [axis for line in axes for axis in line]
    for axis, task in zip(flat, study.tasks, strict=False):
        axis.set_xscale("log" if log else "linear")
        _draw_task(axis, numbers, task, list(study.methods), place)
        axis.set_title(numbers.facts[task].title, loc="left", fontweight="bold")
        axis.set_xlabel(xlabel)
        axis.set_ylabel(axis_title(numbers.main_metric(task)))
        if not axis.lines:
            say_empty(axis)
        elif log:
            plain_ticks(axis.xaxis)
        axis.grid(color="#dddddd", linewidth=0.6)
    for axis in flat[len(study.tasks) :]:
        axis.axis("off")
    legend_below(figure, _legend(study))
    save(figure, study, name, key)
    return figure_paths(study, name)[0]


def _draw_task(axis: Axes, numbers: Numbers, task: str, methods: list[str], place: Place) -> None:
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
            if len(methods) <= 4:  # more bands than that hide each other; cells.csv has every interval
                axis.fill_between(xs, lows, highs, color=style["color"], alpha=0.1, linewidth=0)
    for cell in (c for c in numbers.cells if c.task == task and c.is_teacher):
        mean_of_teacher, x_of_teacher = numbers.summary(cell).mean, place(numbers, cell)
        if mean_of_teacher is not None:
            axis.axhline(scale * mean_of_teacher, color="black", linestyle="--", linewidth=1)
        if mean_of_teacher is not None and x_of_teacher is not None:
            axis.plot(x_of_teacher, scale * mean_of_teacher, "*", color="black", markersize=11)


def _legend(study: Study) -> list[object]:
    from matplotlib.lines import Line2D

    methods = [
        Line2D([], [], **style_of(n), markersize=5, label=f"{m.id} {m.title}")
        for n, m in enumerate(study.methods.values())
    ]
    return [*methods, Line2D([], [], color="black", linestyle="--", marker="*", markersize=9, label="teacher")]
