"""The forest plot: the lead of every row over the baseline, with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.plan.study import Study
from internal_kd.report.figures import (
    ALL_TASKS,
    MOST_PANELS,
    at_point,
    clipped,
    main_lines,
    names_of,
    nothing_to_draw,
    panels,
    titles_of,
)
from internal_kd.report.frames import read_frame
from internal_kd.report.styles import Style, styles_of
from internal_kd.report.words import bounds_of, is_share, metric_title, scale_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Readings that decide a comparison.
DECIDED = ("better", "worse")


def forest(study: Study) -> Figure:
    """Draw the lead over the baseline of every row of the study's question, per task and over all tasks.

    Thin: 95 % interval for new seeds and examples; thick: for new seeds on the same dev set. Filled where decided. Of
    many tasks their mean alone is drawn, if there is one.
    """
    groups, rows = _leads(study)
    pooled = groups[:1] if groups and groups[0][0] == ALL_TASKS else []
    return _forest(study, pooled or groups if len(study.tasks) > MOST_PANELS else groups, rows)


def forest_by_task(study: Study) -> Figure:
    """Draw the leads on each of many tasks."""
    groups, rows = _leads(study)
    return _forest(study, [group for group in groups if group[0] != ALL_TASKS], rows)


# Title, metric and lines of a panel.
_Panel = tuple[str, str, "pd.DataFrame"]


def _leads(study: Study) -> tuple[list[_Panel], list[tuple[str, str]]]:
    lines = main_lines(study, "comparisons")
    lines = lines[(lines["family"] == "primary") & lines["difference"].notna()]
    pooled = at_point(study, read_frame(study, "pooled"))
    tasks = [task for task in study.tasks if task in set(lines["task"])]
    groups: list[_Panel] = []
    if len(tasks) > 1 and pooled["difference"].notna().any():
        groups.append((ALL_TASKS, "accuracy", pooled[pooled["difference"].notna()]))
    titles = titles_of(study)
    for task in tasks:
        own = lines[lines["task"] == task]
        groups.append((titles[task], own["metric"].iloc[0], own))
    return groups, list(dict.fromkeys(zip(lines["id"], names_of(lines, study), strict=True)))


def _forest(study: Study, groups: list[_Panel], rows: list[tuple[str, str]]) -> Figure:
    if not groups:
        return nothing_to_draw("no row can be compared with its baseline yet")
    columns, height = min(MOST_PANELS + 1, len(groups)), 0.95 + (0.34 if len(rows) <= 10 else 0.22) * len(rows)
    figure, axes = panels(-(-len(groups) // columns), columns, max(2.0, min(4.4, 9.6 / columns)), height, sharey=True)
    for axis in axes[len(groups) :]:
        axis.axis("off")
    styles = styles_of(method.id for method in study.methods.values())
    for axis, (title, metric, own) in zip(axes, groups, strict=False):
        _forest_panel(axis, own, metric, rows, styles, study.params.analysis.margin)
        unit = "points" if is_share(metric) else metric_title(metric)
        axis.set_title(title)
        axis.set_xlabel(f"lead in {metric_title(metric)}, {unit}" if title != ALL_TASKS else "mean lead, points")
    axes[0].set_yticks(range(len(rows)), [shorten(name, 36, placeholder=" …") for _, name in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _forest_panel(
    axis: Axes, own: pd.DataFrame, metric: str, rows: Sequence[tuple[str, str]], styles: dict[str, Style], margin: float
) -> None:
    scale = scale_of(metric)
    limit = _limit(own, scale, margin, metric)
    axis.axvline(0, color="black", linewidth=0.9)
    if is_share(metric) and margin > 0:
        axis.axvspan(-margin, margin, color="#000000", alpha=0.06, linewidth=0)
    for height, (number, _) in enumerate(rows):
        style = styles[number]
        for scope, width, alpha in (("new examples", 1.3, 1.0), ("dev set", 4.5, 0.35)):
            found = own[(own["id"] == number) & (own["scope"] == scope)]
            for line in found.itertuples():
                clipped(axis, height, scale * line.low, scale * line.high, limit, style.color, width, alpha)
        found = own[(own["id"] == number) & (own["scope"] == "new examples")]
        for line in found.itertuples():
            decided = line.reading in DECIDED or line.reading.startswith("equal")
            at = float(np.clip(scale * line.difference, -limit, limit))
            fill = style.color if decided else "white"
            axis.plot(at, height, style.marker, color=style.color, markerfacecolor=fill, markersize=6.5, zorder=4)
    axis.set_xlim(-1.06 * limit, 1.06 * limit)
    axis.grid(axis="y", visible=False)


def _limit(own: pd.DataFrame, scale: float, margin: float, metric: str) -> float:
    """Return how far a panel reaches: all differences, and intervals unless one dwarfs the others."""
    reach = scale * own[["low", "high"]].abs().max(axis=1).dropna()
    most = min(float(reach.max()), 2.5 * float(reach.median())) if len(reach) else 0.0
    least = 1.2 * scale * float(own["difference"].abs().max())
    return min(
        max(1.05 * most, least, 2 * margin if scale == 100 else 1e-6), scale * bounds_of(metric, difference=True)[1]
    )
