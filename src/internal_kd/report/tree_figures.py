"""Soft decision trees as pictures: the filters of the upper levels, and the way of some examples to their leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.plan.study import Study
from internal_kd.report.figures import nothing_to_draw, panels
from internal_kd.report.frames import read_or_empty

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERGING = "PuOr_r"


def tree_names(study: Study) -> tuple[str, ...]:
    """Return the names of the figures: two per task with a tree."""
    tasks = dict.fromkeys(run.task for run in study.runs if run.method.learner.kind == "soft_tree")
    return tuple(f"tree_{kind}_{task}" for task in tasks for kind in ("filters", "paths"))


def draw_trees(study: Study) -> dict[str, Figure]:
    """Return the figures by name; one that has nothing to show says why."""
    nodes, paths = read_or_empty(study, "tree_nodes"), read_or_empty(study, "tree_paths")
    drawn = {}
    for name in tree_names(study):
        _, kind, task = name.split("_", 2)
        lines = nodes if kind == "filters" else paths
        own = lines[lines["task"] == task]
        draw = filters_figure if kind == "filters" else paths_figure
        drawn[name] = nothing_to_draw("no tree's weights are here") if own.empty else draw(own)
    return drawn


def filters_figure(lines: pd.DataFrame) -> Figure:
    """Draw the upper levels of a tree: filters, and below them the classes that each branch leads to."""
    deepest = int(lines["level"].max())
    figure, axes = panels(deepest + 1, 2**deepest, 0.62, 0.8)
    for axis in axes:
        axis.axis("off")
    for _, line in lines.iterrows():
        level = int(line["level"])
        place = int(line["node"]) - (2**level - 1)
        column = (2 * place + 1) * 2 ** (deepest - level) // 2
        axis = axes[level * 2**deepest + column]
        _show(axis, line)
        # Left is where the filter's sum is low.
        axis.set_title(f"{100 * line['share']:.0f} %", fontsize=6, pad=2)
    return figure


def paths_figure(lines: pd.DataFrame) -> Figure:
    """Draw a row for each example: what it is, the filters on its way with the sides taken, its leaf."""
    examples = list(lines.groupby("idx", sort=False))
    columns = int(lines["level"].max()) + 2
    figure, axes = panels(len(examples), columns, 0.95, 1.05)
    for row, (_, own) in enumerate(examples):
        for axis, (_, line) in zip(axes[row * columns :], own.iterrows(), strict=False):
            axis.axis("off")
            _show(axis, line)
            if line["level"] < 0:
                axis.set_title(f"{line['gold']}, read as {line['predicted']}", fontsize=6, pad=2)
            elif isinstance(line["answer"], str) and line["answer"]:
                axis.set_title("leaf", fontsize=6, pad=2)
            else:
                side = "right" if line["goes_right"] else "left"
                axis.set_title(f"{side} {100 * line['probability']:.0f} %", fontsize=6, pad=2)
    return figure


def _show(axis: Axes, line: Any) -> None:
    values, words, answer = line["filter"], line["words"], line["answer"]
    if values is not None and not isinstance(values, float):
        side = int(np.sqrt(len(values)))
        image = np.asarray(values, float)
        image = image.reshape(side, side) if side * side == len(values) else image[None]
        if line.get("level", 0) < 0:
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        else:
            largest = float(np.abs(image).max()) or 1.0
            axis.imshow(image, cmap=DIVERGING, vmin=-largest, vmax=largest)
    elif answer or words:
        text = answer or str(words).replace(" ", "\n")
        axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=6)
