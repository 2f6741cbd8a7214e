"""The figures over methods, tasks and sweeps, drawn from frames. What every figure shares is in matplotlibrc."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from internal_kd.files import replacing
from internal_kd.plan.study import Study
from internal_kd.report.cells import cells_of, shown_point
from internal_kd.report.frames import is_at, read_frame, read_or_empty
from internal_kd.report.styles import styles_of
from internal_kd.report.words import bounds_of, is_share, metric_title, scale_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MATPLOTLIBRC = Path(__file__).with_name("matplotlibrc")
TYPES = ("svg", "png")
ALL_TASKS = "All tasks"
SOFT = "#707070"
# Tasks with a panel each; of more, figures show the mean.
MOST_PANELS = 4


def figure_paths(study: Study, name: str) -> tuple[Path, ...]:
    """``results/<study>/figures/<name>.svg`` and ``.png``."""
    return tuple(study.folder / "figures" / f"{name}.{kind}" for kind in TYPES)


def look() -> AbstractContextManager[None]:
    """Draw with the settings of matplotlibrc inside the block."""
    import matplotlib

    return matplotlib.rc_context(fname=MATPLOTLIBRC)


def panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of rows x columns panels of ``width`` x ``height`` inches each, and the panels in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows))
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def save(study: Study, name: str, figure: Figure) -> None:
    """Write a figure as SVG and PNG, without dates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    svg, png = figure_paths(study, name)
    # The canvases themselves, with one layout for both: savefig would draw everything twice, to the same bytes.
    with replacing(png) as temporary:
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    figure.set_layout_engine("none")
    with replacing(svg) as temporary:
        FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None})


def titles_of(study: Study) -> dict[str, str]:
    """Return the tasks' titles."""
    tasks = read_frame(study, "tasks")
    return dict(zip(tasks["task"], tasks["title"], strict=True))


def names_of(frame: pd.DataFrame, study: Study) -> pd.Series:
    """Return what people call the row of each line."""
    titles = frame["method"].map({name: method.title for name, method in study.methods.items()})
    titles = titles.fillna(frame["title"]) if "title" in frame else titles.fillna("")
    return (frame["id"] + " " + titles).str.strip()


def main_lines(study: Study, name: str = "main", *, anywhere: bool = False) -> pd.DataFrame:
    """Return a table's lines under each task's main metric at the shown point, single cells of a method included."""
    frame, tasks = read_frame(study, name), read_frame(study, "tasks")
    metrics = dict(zip(tasks["task"], tasks["metric"], strict=True))
    if "metric" in frame:
        frame = frame[frame["metric"] == frame["task"].map(metrics)]
    if "split" in frame:
        frame = frame[frame["split"] == "dev"]
    return frame if anywhere else at_point(study, frame)


def at_point(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the lines at the shown point, and those of methods with one point only."""
    if not study.axes or frame.empty:
        return frame
    axes = list(study.axes)
    cells = cells_of(study)
    single = {name for name in study.methods if len({cell.point for cell in cells if cell.method.name == name}) == 1}
    return frame[is_at(frame[axes], shown_point(cells)) | frame["method"].isin(single)]


def nothing_to_draw(why: str = "not run yet") -> Figure:
    """Return a figure that says why it is empty."""
    figure, axes = panels(1, 1, 6.4, 1.0)
    say_empty(axes[0], why)
    return figure


def say_empty(axis: Axes, why: str = "not run yet") -> None:
    """Write into a panel why there is nothing to draw."""
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", style="italic", color=SOFT)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)


def logarithmic(panel: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers: the usual labels are formulas, which are not drawn."""
    from matplotlib.ticker import LogLocator, NullFormatter

    panel.set(**{f"{which}scale": "log"})
    axis = panel.xaxis if which == "x" else panel.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def clipped(
    axis: Axes, y: float, low: float, high: float, limit: float, color: str, width: float, alpha: float = 1.0,
    least: float | None = None,
) -> None:  # fmt: skip
    """Draw an interval, cut at the limits with an arrow head at each cut."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return
    least = -limit if least is None else least
    left, right = max(low, least), min(high, limit)
    axis.plot([left, right], [y, y], color=color, linewidth=width, alpha=alpha, solid_capstyle="butt", zorder=3)
    for at, marker, is_cut in ((left, "<", low < least), (right, ">", high > limit)):
        if is_cut and width < 3:
            axis.plot(at, y, marker, color=color, markersize=5, zorder=3)


# Rows as dots: scores, and what may explain them


def dots(
    study: Study,
    frame: pd.DataFrame,
    value: str,
    label: str,
    *,
    low: str = "",
    high: str = "",
    scale: float | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    log: bool = False,
    reference: str = "",
    seeds: pd.DataFrame | None = None,
) -> Figure:
    """Draw one panel per task with a dot for every row, its interval, and a reference as a short bar.

    Args:
        study: whose tasks become panels.
        frame: one line per row and task.
        value, low, high, reference: columns.
        label: below the panels.
        scale: by what values are multiplied; by default as the line's metric is usually shown.
        bounds: lowest and highest possible value, with ``scale``.
        log: whether the x axes are logarithmic if values differ widely.
        seeds: one line per row, task and seed, whose ``value`` is drawn as a circle.

    Without seeds, many tasks are one panel: their mean, and a circle for each.
    """
    frame = frame[frame[value].notna()]
    tasks, titles = [task for task in study.tasks if task in set(frame["task"])], titles_of(study)
    if not tasks:
        return nothing_to_draw()
    if len(tasks) > MOST_PANELS and seeds is None:
        titles[ALL_TASKS] = f"Mean over {len(tasks)} tasks (circles: tasks)"
        low, tasks, seeds = "", [ALL_TASKS], frame.assign(task=ALL_TASKS, value=frame[value])
        keys = [key for key in ("task", "id", "method", "title") if key in frame]
        known = [column for column in (value, reference) if column]
        frame = frame.assign(task=ALL_TASKS).groupby(keys, sort=False, as_index=False)[known].mean()
    rows = list(dict.fromkeys(zip(frame["id"], names_of(frame, study), strict=True)))
    columns = min(4, len(tasks))
    width = (4.4 if seeds is None else 7.0) / columns
    figure, axes = panels(
        -(-len(tasks) // columns), columns, width + 2.2 / columns, 0.8 + 0.26 * len(rows), sharey=True
    )
    styles = styles_of([*(m.id for m in study.methods.values()), *(n for n, _ in rows)])
    for axis, task in zip(axes, tasks, strict=False):
        own = frame[frame["task"] == task]
        for height, row in enumerate(rows):
            found = own[(own["id"] == row[0]) & (names_of(own, study) == row[1])]
            for line in found.to_dict("records"):
                by = scale or scale_of(line["metric"])
                style, (least, most) = styles[row[0]], bounds_of(line["metric"]) if scale is None else bounds
                if seeds is not None:
                    values = by * seeds[(seeds["task"] == task) & (seeds["method"] == line["method"])]["value"].dropna()
                    axis.scatter(values, [height + 0.25] * len(values), s=14, facecolors="none", edgecolors=SOFT)
                if low and np.isfinite(line[low]):
                    clipped(axis, height, by * line[low], by * line[high], by * most, style.color, 1.3, 1.0, by * least)
                axis.plot(by * line[value], height, style.marker, color=style.color, zorder=4)
                if reference and np.isfinite(line[reference]):
                    axis.plot(by * line[reference], height, "|", color="black", markersize=11, markeredgewidth=1.4)
        axis.set_title(titles[task])
        if log and frame[value].max() > 5 * frame[value].min() > 0:
            logarithmic(axis, "x")
    for axis in axes[len(tasks) :]:
        axis.axis("off")
    figure.supxlabel(label, fontsize=8.5)
    axes[0].set_yticks(range(len(rows)), [shorten(name, 34, placeholder=" …") for _, name in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


# What may explain the answer: the table and column, the label, and how it is drawn.
EXPLAINED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "agreement": (
        "fidelity", "agreement", "same answer as the teacher, %",
        {"low": "agreement_low", "high": "agreement_high", "scale": 100},
    ),
    "mistakes": (
        "fidelity", "repeated", "teacher's mistakes repeated, %",
        {"low": "repeated_low", "high": "repeated_high", "reference": "by_chance", "scale": 100},
    ),
    "calibration": ("calibration", "ece", "calibration error, points", {"scale": 100}),
    "attention": (
        "attention_means", "kl", "attention KL, nats",
        {"low": "low", "high": "high", "scale": 1.0, "bounds": (0.0, math.inf), "log": True},
    ),
}  # fmt: skip


def explained(study: Study, name: str) -> Figure:
    """Draw one of ``EXPLAINED``: agreement with the teacher, its mistakes repeated, calibration, attention."""
    table, column, label, how = EXPLAINED[name]
    lines = measured_attention(study, table) if name == "attention" else main_lines(study, table)
    return dots(study, lines, column, label, **how)


def measured_attention(study: Study, name: str) -> pd.DataFrame:
    """Return an attention table's lines about runs of the study as it is now."""
    frame, runs = read_or_empty(study, name), set(study.by_fingerprint)
    return frame[frame["teacher_run"].isin(runs)]


def scores(study: Study) -> Figure:
    """Draw every seed, the mean and its interval for each row; a bar marks the majority class."""
    lines, seeds = main_lines(study), main_lines(study, "scores")
    titles = {metric_title(metric) + (" × 100" if is_share(metric) else "") for metric in lines["metric"]}
    label = titles.pop() if len(titles) == 1 else "main metric"
    return dots(study, lines, "mean", label, low="low", high="high", reference="majority", seeds=seeds)


def legend_below(figure: Figure, study: Study, ids: Iterable[str], more: Sequence[Any] = ()) -> None:
    """Put a legend of rows under a figure."""
    from matplotlib.lines import Line2D

    styles, shown = styles_of(method.id for method in study.methods.values()), set(ids)
    handles = [
        Line2D([], [], color=styles[m.id].color, marker=styles[m.id].marker, linestyle=styles[m.id].linestyle,
               label=shorten(f"{m.id} {m.title}", 44, placeholder=" …"))
        for m in study.methods.values()
        if m.id in shown
    ]  # fmt: skip
    columns = max(1, int(figure.get_figwidth() / 2.6))
    figure.set_figheight(figure.get_figheight() + 0.19 * max(0, -(-len(handles) // columns) - 3))
    figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
