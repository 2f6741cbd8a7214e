"""The reliability diagrams: accuracy against confidence, for the teacher, the best internal row and its baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.analysis.built import figure_paths, recorded_key, tables_folder
from internal_kd.analysis.cells import Cell
from internal_kd.analysis.csv_files import Line, read_csv
from internal_kd.analysis.figures import Numbers, read_numbers, shown_depth, shown_size
from internal_kd.analysis.plotting import panels, save, say_empty, style_of
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A point of fewer examples says nothing.
FEWEST = 10

# (confidence, accuracy, examples) of the bins of a diagram.
Points = list[tuple[float, float, int]]


def plot_reliability(study: Study) -> Path:
    """Draw a reliability diagram per task, seeds pooled; of the internal rows the one with the highest mean score.

    Raises:
        UserError: a table is missing or not whole.
    """
    key, numbers = recorded_key(study), read_numbers(study)
    points = _read_points(tables_folder(study) / "reliability.csv")
    columns = min(2, len(study.tasks))
    figure, axes = panels(-(-len(study.tasks) // columns), columns, 6.4 if columns == 1 else 4.6, 3.6)
    flat = [axis for line in axes for axis in line]
    for axis, task in zip(flat, study.tasks, strict=False):
        facts = numbers.facts[task]
        axis.set_title(facts.title, loc="left", fontweight="bold")
        if facts.regression:
            say_empty(axis, "values have no confidence")
            continue
        chosen = shown_cells(study, numbers, task)
        drawn = [(cell, _style(study, cell), points[cell.key]) for cell in chosen if cell.key in points]
        if not drawn:
            say_empty(axis)
            continue
        _draw(axis, drawn, lowest=1 / facts.classes)
    for axis in flat[len(study.tasks) :]:
        axis.axis("off")
    save(figure, study, "reliability", key)
    return figure_paths(study, "reliability")[0]


def shown_cells(study: Study, numbers: Numbers, task: str) -> list[Cell]:
    """Return the teacher, of the internal rows the one with the highest mean score, and its other baselines.

    Without an internal row all rows are shown.
    """
    depth, size = shown_depth(study), shown_size(study)
    own = [c for c in numbers.cells if c.task == task and (c.is_teacher or (c.depth, c.examples) == (depth, size))]
    internal = [cell for cell in own if cell.internal]
    sign = 1 if HIGHER_IS_BETTER.get(numbers.main_metric(task), True) else -1
    known = [cell for cell in internal if numbers.summary(cell).mean is not None]
    best = max(known, key=lambda cell: sign * (numbers.summary(cell).mean or 0.0), default=None)
    others = best.baselines if best else tuple(study.methods)
    return [c for c in own if c.is_teacher or c is best or (c.method in others and not c.internal)]


def _style(study: Study, cell: Cell) -> dict[str, Any]:
    # As in the other figures, so that a method looks the same in all of them.
    if cell.is_teacher:
        return {"color": "black", "marker": "*", "linestyle": "--"}
    return style_of(list(study.methods).index(cell.method))


def _draw(axis: Axes, drawn: Sequence[tuple[Cell, dict[str, Any], Points]], lowest: float) -> None:
    axis.plot([lowest, 1], [lowest, 1], color="#999999", linewidth=0.9, label="perfect", zorder=1)
    for cell, style, found in drawn:
        sure, right, counts = (list(part) for part in zip(*found, strict=True))
        whole = sum(counts)
        axis.plot(sure, right, color=style["color"], linestyle=style["linestyle"], linewidth=1.3, zorder=2)
        sizes = [16 + 160 * count / whole for count in counts]
        axis.scatter(sure, right, s=sizes, color=style["color"], marker=style["marker"], zorder=3)
        axis.plot([], [], **style, markersize=5, linewidth=1.3, label=f"{cell.id} {cell.title}")
    floor = min([lowest, *(right for _, _, found in drawn for _, right, _ in found)])
    axis.set_xlim(lowest - 0.02, 1.02)
    axis.set_ylim(floor - 0.04, 1.04)
    axis.set_xlabel("confidence")
    axis.set_ylabel("accuracy (dev)")
    axis.grid(color="#e5e5e5", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.legend(fontsize=7, frameon=False, loc="best")


def _read_points(path: Path) -> dict[tuple[str, ...], Points]:
    def build(lines: Iterable[Line]) -> dict[tuple[str, ...], Points]:
        found: dict[tuple[str, ...], Points] = {}
        for line in lines:
            key = (line["task"], line["method"], line["depth"], line["examples"])
            if line["split"] == "dev" and int(line["count"]) >= FEWEST:
                point = (float(line["confidence"]), float(line["accuracy"]), int(line["count"]))
                found.setdefault(key, []).append(point)
        return found

    return read_csv(path, "measure-fidelity", build)
