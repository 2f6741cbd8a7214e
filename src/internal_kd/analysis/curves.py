"""The learning curves: dev score and internal losses per epoch, with the stages of the curricula marked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.analysis.built import figure_paths, recorded_key
from internal_kd.analysis.cells import cells_of
from internal_kd.analysis.figures import axis_title, scale_of, shown_depth, shown_size, title_panel
from internal_kd.analysis.plotting import legend_below, panels, plain_ticks, save, say_empty, style_of
from internal_kd.analysis.predictions import read_facts
from internal_kd.analysis.scores import read_scores
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Other terms of the registry are called by their names.
LOSSES = {"attention_kl": "attention KL", "cls_cosine": "[CLS] cosine loss"}


@dataclass(frozen=True)
class Curve:
    """One quantity of one method over epochs: per epoch the mean, least and largest over seeds, NaN where not measured.

    ``stages`` are the epochs at which a seed's curriculum moved on, the first epoch left out.
    """

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    stages: tuple[int, ...]

    @property
    def known(self) -> np.ndarray:
        """The epochs at which there is a value."""
        return np.isfinite(self.mean)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return a run's history, one mapping per epoch; a line that was cut short ends it."""
    lines = []
    try:
        for text in path.read_text(encoding="utf-8").splitlines():
            lines.append(json.loads(text))
    except (OSError, ValueError):
        return lines
    return lines


def curve_of(histories: Sequence[Sequence[dict[str, Any]]], name: str) -> Curve | None:
    """Return a quantity over epochs and seeds, or None where no history has it."""
    length = max((len(history) for history in histories), default=0)
    values = np.full((len(histories), length), np.nan)
    stages = set()
    for row, history in enumerate(histories):
        for column, line in enumerate(history):
            value = line.get(name)
            values[row, column] = value if isinstance(value, int | float) else np.nan
        stages |= {n for n, (a, b) in enumerate(pairwise(history), 2) if a["stage"] != b["stage"]}
    finite = np.isfinite(values)
    if not finite.any():
        return None
    count = np.maximum(finite.sum(0), 1)
    empty = ~finite.any(0)
    filled = [np.where(finite, values, fill) for fill in (0.0, np.inf, -np.inf)]
    parts = [filled[0].sum(0) / count, filled[1].min(0), filled[2].max(0)]
    mean, low, high = (np.where(empty, np.nan, part) for part in parts)
    return Curve(np.arange(1, length + 1), mean, low, high, tuple(sorted(stages)))


def plot_learning(study: Study) -> Path:
    """Draw dev score and internal losses against epochs, mean over seeds, least to largest as a band."""
    from matplotlib.lines import Line2D

    key, finished = recorded_key(study), {score.fingerprint for score in read_scores(study)}
    depth, size = shown_depth(study), shown_size(study)
    quantities = ["score", *_losses_in(study)]
    figure, axes = panels(len(quantities), len(study.tasks), 4.2 if len(study.tasks) > 1 else 6.4, 2.3)
    for column, (task, tokens) in enumerate(study.tasks.items()):
        facts = read_facts(tokens)
        metric = facts.scored[0][0]
        for position, method in enumerate(study.methods):
            runs = [
                run
                for cell in cells_of(study)
                if cell.row == (method, str(depth), size) and cell.task == task
                for run in cell.runs
                if run.fingerprint in finished
            ]
            histories = [read_history(run.folder / "history.jsonl") for run in runs]
            for line, quantity in enumerate(quantities):
                is_score = quantity == "score"
                curve = curve_of(histories, f"dev_{metric}" if is_score else quantity)
                if curve is not None:
                    _draw(axes[line][column], curve, scale_of(metric) if is_score else 1.0, position)
        for line, quantity in enumerate(quantities):
            axes[line][column].set_ylabel(axis_title(metric) if quantity == "score" else LOSSES.get(quantity, quantity))
            if not axes[line][column].lines:
                say_empty(axes[line][column])
            elif quantity != "score":
                axes[line][column].set_yscale("log")
                plain_ticks(axes[line][column].yaxis)
        title_panel(axes[0][column], facts, depth, size)
        axes[-1][column].set_xlabel("epoch")
    handles = [
        Line2D([], [], **style_of(n), markersize=4, label=f"{m.id} {m.title}")
        for n, m in enumerate(study.methods.values())
    ]
    if any(method.curriculum != "all" for method in study.methods.values()):
        handles.append(Line2D([], [], linestyle="none", marker="|", markersize=12, color="black", label="next stage"))
    legend_below(figure, handles)
    save(figure, study, "learning", key)
    return figure_paths(study, "learning")[0]


def _losses_in(study: Study) -> list[str]:
    used = {term for method in study.methods.values() for term in method.layer_terms}
    return [name for name in OBJECTIVES if name in used]


def _draw(axis: Axes, curve: Curve, scale: float, position: int) -> None:
    from matplotlib.ticker import MaxNLocator

    style, known = style_of(position), curve.known
    epochs, mean = curve.epochs[known], scale * curve.mean[known]
    axis.plot(epochs, mean, linewidth=1.3, markersize=3.5, markevery=max(1, len(epochs) // 8), **style)
    low, high = scale * curve.low[known], scale * curve.high[known]
    axis.fill_between(epochs, low, high, color=style["color"], alpha=0.1, linewidth=0)
    steps = [n for n in curve.stages if n in set(epochs)]
    at = [scale * curve.mean[n - 1] for n in steps]
    axis.plot(steps, at, linestyle="none", marker="|", markersize=12, color=style["color"])
    axis.grid(color="#e5e5e5", linewidth=0.6)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
