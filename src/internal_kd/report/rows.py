"""Figures with a line per row: the forest plot of leads, scores, and what may explain them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.plan.study import Study
from internal_kd.report.figures import ALL_TASKS, MOST_PANELS, SOFT, grid, logarithmic, nothing_to_draw
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.styles import styles_of
from internal_kd.report.words import bounds_of, is_share, metric_title, scale_of, score_title
from internal_kd.statistics import SCOPES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Mark:
    """What a row has in a panel, in the units of the axis.

    Attributes:
        row: its id and name.
        spans: low, high, width and opacity of the lines behind the mark.
        reference: where a short bar stands.
        circles: single values below the mark.
    """

    row: tuple[str, str]
    at: float
    spans: tuple[tuple[float, float, float, float], ...] = ()
    filled: bool = True
    reference: float = math.nan
    circles: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """A panel's title, its marks, and the limits at which intervals are cut."""

    title: str
    marks: list[Mark]
    limits: tuple[float, float]


def rows_figure(study: Study, groups: list[Panel], width: float, height: tuple[float, float]) -> tuple[Figure, Any]:
    """Draw a panel per group with a line per row, and return figure and panels.

    Args:
        groups: what is drawn, at most ``MOST_PANELS`` + 1 side by side.
        width: of a panel, in inches.
        height: of a panel without rows, and of each row.
    """
    rows = list(dict.fromkeys(mark.row for group in groups for mark in group.marks))
    figure, axes = grid(len(groups), MOST_PANELS + 1, width, height[0] + height[1] * len(rows), sharey=True)
    styles = styles_of([*(method.id for method in study.methods.values()), *(number for number, _ in rows)])
    for axis, group in zip(axes, groups, strict=True):
        axis.set_title(group.title)
        for mark in group.marks:
            y, style = rows.index(mark.row), styles[mark.row[0]]
            for low, high, thick, alpha in mark.spans:
                _span(axis, y, (low, high), group.limits, style.color, thick, alpha)
            axis.scatter(mark.circles, [y + 0.25] * len(mark.circles), s=14, facecolors="none", edgecolors=SOFT)
            fill = style.color if mark.filled else "white"
            axis.plot(mark.at, y, style.marker, color=style.color, markerfacecolor=fill, zorder=4)
            if np.isfinite(mark.reference):
                axis.plot(mark.reference, y, "|", color="black", markersize=11, markeredgewidth=1.4)
    axes[0].set_yticks(range(len(rows)), [shorten(name, 36, placeholder=" …") for _, name in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure, axes


def _span(
    axis: Axes, y: float, span: tuple[float, float], limits: tuple[float, float], color: str, width: float, alpha: float
) -> None:
    """Draw an interval, cut at the limits with an arrow head at each cut."""
    if not np.isfinite(span).all():
        return
    left, right = np.clip(span, *limits)
    axis.plot([left, right], [y, y], color=color, linewidth=width, alpha=alpha, solid_capstyle="butt", zorder=3)
    for at, marker, is_cut in ((left, "<", span[0] < left), (right, ">", span[1] > right)):
        if is_cut and width < 3:
            axis.plot(at, y, marker, color=color, markersize=5, zorder=3)


@dataclass(frozen=True)
class Explanation:
    """A figure that may explain the answer: columns of a table, how they are shown, and their bounds."""

    table: str
    value: str
    label: str
    low: str = ""
    high: str = ""
    reference: str = ""
    scale: float | None = 100.0
    bounds: tuple[float, float] = (0.0, 1.0)


EXPLAINED = {
    "agreement": Explanation(
        "fidelity", "agreement", "same answer as the teacher, %", "agreement_low", "agreement_high"
    ),
    "mistakes": Explanation(
        "fidelity", "repeated", "teacher's mistakes repeated, %", "repeated_low", "repeated_high", "by_chance"
    ),
    "calibration": Explanation("calibration", "ece", "calibration error, points"),
    "attention": Explanation(
        "attention_means", "kl", "attention KL, nats", "low", "high", scale=1.0, bounds=(0.0, math.inf)
    ),
}
SCORES = Explanation("main", "mean", "", "low", "high", "majority", scale=None)


def explained_lines(frames: StudyFrames, name: str) -> pd.DataFrame:
    """Return the lines that one of ``EXPLAINED`` draws."""
    how = EXPLAINED[name]
    lines = frames.measured(how.table) if name == "attention" else frames.shown(how.table)
    return lines[lines[how.value].notna()]


def explained(frames: StudyFrames, name: str) -> Figure:
    """Draw one of ``EXPLAINED``: agreement with the teacher, its mistakes repeated, calibration, attention.

    Many tasks are one panel: their mean, and a circle for each.
    """
    how, lines = EXPLAINED[name], explained_lines(frames, name)
    if lines["task"].nunique() > MOST_PANELS:
        every = lines.assign(task=ALL_TASKS, value=lines[how.value])
        keys = [key for key in ("task", "id", "method", "title") if key in every]
        known = [column for column in (how.value, how.reference) if column]
        lines = every.groupby(keys, sort=False, as_index=False)[known].mean()
        figure = _dots(frames, lines, replace(how, low=""), every)
    else:
        figure = _dots(frames, lines, how)
    if name == "attention" and len(lines) and lines[how.value].max() > 5 * lines[how.value].min() > 0:
        for axis in figure.axes:
            logarithmic(axis, "x")
    return figure


def scores(frames: StudyFrames) -> Figure:
    """Draw every seed, the mean and its interval for each row; a bar marks the majority class."""
    lines = frames.shown("main")
    lines = lines[lines["mean"].notna()]
    how = replace(SCORES, label=score_title(lines["metric"]))
    return _dots(frames, lines, how, frames.shown("scores"))


def _dots(frames: StudyFrames, lines: pd.DataFrame, how: Explanation, circles: pd.DataFrame | None = None) -> Figure:
    """Draw a panel per task with a mark for every line; ``circles`` have a ``value`` per task and method."""
    groups = []
    for task in [task for task in (*frames.study.tasks, ALL_TASKS) if task in set(lines["task"])]:
        marks, limits = [], how.bounds
        for line in lines[lines["task"] == task].to_dict("records"):
            by = how.scale or scale_of(line["metric"])
            limits = how.bounds if how.scale else bounds_of(line["metric"])
            span = (by * line[how.low], by * line[how.high], 1.3, 1.0) if how.low else None
            own: Any = ()
            if circles is not None:
                of_row = (circles["task"] == task) & (circles["method"] == line["method"])
                own = by * circles[of_row]["value"].dropna()
            marks.append(
                Mark(
                    (line["id"], frames.row(line)), by * line[how.value], (span,) if span else (),
                    reference=by * line[how.reference] if how.reference else math.nan,
                    circles=own,
                )
            )  # fmt: skip
        title = (
            f"Mean over {len(frames.study.tasks)} tasks (circles: tasks)" if task == ALL_TASKS else frames.task(task)
        )
        groups.append(Panel(title, marks, (by * limits[0], by * limits[1])))
    if not groups:
        return nothing_to_draw()
    columns = min(MOST_PANELS + 1, len(groups))
    figure, _ = rows_figure(frames.study, groups, ((6.6 if circles is None else 9.2) / columns), (0.8, 0.26))
    figure.supxlabel(how.label, fontsize=8.5)
    return figure


def forest(frames: StudyFrames) -> Figure:
    """Draw the lead over the baseline of every row of the study's question, per task and over all tasks.

    Thin: 95 % interval for new seeds and examples; thick: for new seeds on the same dev set. Filled where decided. Of
    many tasks their mean alone is drawn, if there is one.
    """
    groups = _leads(frames)
    return _forest(frames, groups[:1] if len(frames.study.tasks) > MOST_PANELS and ALL_TASKS in groups[:1] else groups)


def forest_by_task(frames: StudyFrames) -> Figure:
    """Draw the leads on each of many tasks."""
    return _forest(frames, [task for task in _leads(frames) if task != ALL_TASKS])


def _leads(frames: StudyFrames) -> list[str]:
    """Return the tasks that have leads, before them all of them together if that can be said."""
    lines = frames.question
    pooled = frames.at_point(frames["pooled"])["difference"].notna().any()
    tasks = [task for task in frames.study.tasks if task in set(lines["task"])]
    return [*([ALL_TASKS] if pooled and len(tasks) > 1 else []), *tasks]


def _forest(frames: StudyFrames, tasks: list[str]) -> Figure:
    if not tasks:
        return nothing_to_draw("no row can be compared with its baseline yet")
    groups, margin, labels = [], frames.study.params.analysis.margin, []
    for task in tasks:
        lines = frames.question if task != ALL_TASKS else frames.at_point(frames["pooled"]).assign(task=ALL_TASKS)
        own = lines[(lines["task"] == task) & lines["difference"].notna()]
        metric = "accuracy" if task == ALL_TASKS else own["metric"].iloc[0]
        scale, limit = scale_of(metric), _limit(own, metric, margin)
        marks = []
        for _, pair in own.groupby(["id", "method"], sort=False):
            by_scope = {line["scope"]: line for line in pair.to_dict("records")}
            line = by_scope[SCOPES["new"]]
            spans = tuple(
                (scale * by_scope[scope]["low"], scale * by_scope[scope]["high"], width, alpha)
                for scope, width, alpha in ((SCOPES["new"], 1.3, 1.0), (SCOPES["dev"], 4.5, 0.35))
            )
            filled = line["reading"] in ("better", "worse") or line["reading"].startswith("equal")
            at = float(np.clip(scale * line["difference"], -limit, limit))
            marks.append(Mark((line["id"], frames.row(line)), at, spans, filled))
        groups.append(Panel(frames.task(task), marks, (-limit, limit)))
        unit = "points" if is_share(metric) else metric_title(metric)
        labels.append("mean lead, points" if task == ALL_TASKS else f"lead in {metric_title(metric)}, {unit}")
    rows = max(len(group.marks) for group in groups)
    width = max(2.0, min(4.4, 9.6 / min(MOST_PANELS + 1, len(groups))))
    figure, axes = rows_figure(frames.study, groups, width, (0.95, 0.34 if rows <= 10 else 0.22))
    for axis, group, label in zip(axes, groups, labels, strict=True):
        axis.axvline(0, color="black", linewidth=0.9)
        if label.endswith("points") and margin > 0:
            axis.axvspan(-margin, margin, color="#000000", alpha=0.06, linewidth=0)
        axis.set_xlim(1.06 * group.limits[0], 1.06 * group.limits[1])
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(label)
    return figure


def _limit(own: pd.DataFrame, metric: str, margin: float) -> float:
    """Return how far a panel reaches: all differences, and intervals unless one dwarfs the others."""
    scale = scale_of(metric)
    reach = scale * own[["low", "high"]].abs().max(axis=1).dropna()
    most = min(float(reach.max()), 2.5 * float(reach.median())) if len(reach) else 0.0
    least = 1.2 * scale * float(own["difference"].abs().max())
    found = max(1.05 * most, least, 2 * margin if scale == 100 else 1e-6)
    return min(found, scale * bounds_of(metric, difference=True)[1])
