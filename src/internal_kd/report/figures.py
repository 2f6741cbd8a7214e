"""The figures over methods, tasks and sweeps, drawn from frames. What every figure shares is in matplotlibrc."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.files import replacing
from internal_kd.plan.study import Study
from internal_kd.report.cells import axis_columns, cells_of, shown_point
from internal_kd.report.frames import is_at, read_frame, read_or_empty
from internal_kd.report.styles import Style, styles_of
from internal_kd.report.words import axis_title, bounds_of, is_share, metric_title, numbers, scale_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MATPLOTLIBRC = Path(__file__).with_name("matplotlibrc")
TYPES = ("svg", "png")
ALL_TASKS = "All tasks"
SOFT = "#707070"
# Readings that decide a comparison.
DECIDED = ("better", "worse")


def figure_paths(study: Study, name: str) -> tuple[Path, ...]:
    """``results/<study>/figures/<name>.svg`` and ``.png``."""
    return tuple(study.folder / "figures" / f"{name}.{kind}" for kind in TYPES)


def sweep_name(axis: str) -> str:
    """Return the name of the figure over a varied key."""
    return f"sweep_{axis.replace('.', '_')}"


def draw_figures(study: Study) -> dict[str, Figure]:
    """Return every figure over methods, tasks and sweeps by name."""
    drawn: dict[str, Callable[[], Figure]] = {
        "forest": lambda: forest(study),
        "scores": lambda: scores(study),
        "cost": lambda: cost(study),
        "agreement": lambda: agreement(study),
        "mistakes": lambda: mistakes(study),
        "calibration": lambda: calibration(study),
        "attention": lambda: attention(study),
        "learning": lambda: learning(study),
        **{sweep_name(axis): lambda axis=axis: sweep(study, axis) for axis in axis_columns(study)},  # type: ignore[misc]
    }
    return {name: draw() for name, draw in drawn.items()}


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
    """Return what people call the row of each line, with its point where the study varies several things."""
    methods = frame["method"].map({name: method.title for name, method in study.methods.items()}).fillna("")
    return (frame["id"] + "  " + methods).str.strip()


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
    axes = list(axis_columns(study))
    cells = cells_of(study)
    single = {name for name in study.methods if len({cell.point for cell in cells if cell.method.name == name}) == 1}
    return frame[is_at(frame[axes], shown_point(cells)) | frame["method"].isin(single)]


def say_empty(axis: Axes, why: str = "not run yet") -> None:
    """Write into a panel why there is nothing to draw."""
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", style="italic", color=SOFT)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)


# The answer: leads over the baseline


def forest(study: Study) -> Figure:
    """Draw the lead over the baseline of every row of the study's question, per task and over all tasks.

    Thin: 95 % interval for new seeds and examples; thick: for new seeds on the same dev set. Filled where decided.
    """
    lines = main_lines(study, "comparisons")
    lines = lines[(lines["family"] == "primary") & lines["difference"].notna()]
    pooled = at_point(study, read_frame(study, "pooled"))
    tasks = [task for task in study.tasks if task in set(lines["task"])]
    groups: list[tuple[str, str, pd.DataFrame]] = []
    if len(tasks) > 1 and pooled["difference"].notna().any():
        groups.append((ALL_TASKS, "accuracy", pooled[pooled["difference"].notna()]))
    titles = titles_of(study)
    for task in tasks:
        own = lines[lines["task"] == task]
        groups.append((titles[task], own["metric"].iloc[0], own))
    rows = list(dict.fromkeys(zip(lines["id"], names_of(lines, study), strict=True)))
    if not groups:
        figure, axes = panels(1, 1, 6.4, 1.4)
        say_empty(axes[0], "no row can be compared with its baseline yet")
        return figure
    height = 0.95 + 0.34 * len(rows)
    figure, axes = panels(1, len(groups), max(2.0, min(3.4, 9.6 / len(groups))), height, sharey=True)
    styles = styles_of(method.id for method in study.methods.values())
    for axis, (title, metric, own) in zip(axes, groups, strict=True):
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
                _clipped(axis, height, scale * line.low, scale * line.high, limit, style.color, width, alpha)
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


def _clipped(
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
    scale: float = 100.0,
    log: bool = False,
    reference: str = "",
) -> Figure:
    """Draw one panel per task with a dot for every row, its interval, and a reference as a short bar.

    Args:
        study: whose tasks become panels.
        frame: one line per row and task.
        value, low, high, reference: columns.
        label: title of the x axes.
        scale: by what values are multiplied.
        log: whether the x axes are logarithmic.
    """
    frame = frame[frame[value].notna()]
    tasks = [task for task in study.tasks if task in set(frame["task"])]
    if not tasks:
        figure, axes = panels(1, 1, 6.4, 1.2)
        say_empty(axes[0])
        return figure
    rows = list(dict.fromkeys(zip(frame["id"], names_of(frame, study), strict=True)))
    columns = min(4, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, axes = panels(lines, columns, max(1.9, 6.6 / columns), 0.8 + 0.26 * len(rows), sharey=True)
    styles, titles = styles_of([*(m.id for m in study.methods.values()), *(n for n, _ in rows)]), titles_of(study)
    for axis, task in zip(axes, tasks, strict=False):
        own = frame[frame["task"] == task]
        for height, row in enumerate(rows):
            found = own[(own["id"] == row[0]) & (names_of(own, study) == row[1])]
            for line in found.to_dict("records"):
                style = styles[row[0]]
                if low and np.isfinite(line[low]):
                    ends = np.clip([scale * line[low], scale * line[high]], 0, 100 if scale == 100 else None)
                    axis.plot(ends, [height] * 2, color=style.color, linewidth=1.3, zorder=3)
                axis.plot(scale * line[value], height, style.marker, color=style.color, zorder=4)
                if reference and np.isfinite(line[reference]):
                    axis.plot(scale * line[reference], height, "|", color="black", markersize=11, markeredgewidth=1.4)
        axis.set_title(titles[task])
        axis.set_xscale("log" if log else "linear")
    for axis in axes[len(tasks) :]:
        axis.axis("off")
    figure.supxlabel(label, fontsize=8.5)
    axes[0].set_yticks(range(len(rows)), [shorten(name, 32, placeholder=" …") for _, name in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def agreement(study: Study) -> Figure:
    """Draw how often each row gives its teacher's answer."""
    lines = main_lines(study, "fidelity")
    return dots(study, lines, "agreement", "same answer as the teacher, %", low="agreement_low", high="agreement_high")


def mistakes(study: Study) -> Figure:
    """Draw which share of its teacher's mistakes each row repeats; a bar marks what chance would give."""
    lines = main_lines(study, "fidelity")
    return dots(
        study,
        lines,
        "repeated",
        "teacher's mistakes repeated, %",
        low="repeated_low",
        high="repeated_high",
        reference="by_chance",
    )


def calibration(study: Study) -> Figure:
    """Draw each row's expected calibration error."""
    return dots(study, main_lines(study, "calibration"), "ece", "calibration error, points")


def attention(study: Study) -> Figure:
    """Draw how far each row's attention is from its teacher's."""
    lines = measured_attention(study, "attention_means")
    return dots(study, lines, "kl", "attention KL, nats", low="low", high="high", scale=1.0, log=True)


def measured_attention(study: Study, name: str) -> pd.DataFrame:
    """Return an attention table's lines about runs of the study as it is now."""
    frame, runs = read_or_empty(study, name), set(study.by_fingerprint)
    return frame[frame["teacher"].isin(runs)]


def scores(study: Study) -> Figure:
    """Draw every seed, the mean and its interval for each row, beside its teacher and the majority class."""
    lines, seeds = main_lines(study), main_lines(study, "scores")
    tasks, rows = list(study.tasks), list(dict.fromkeys(zip(lines["id"], names_of(lines, study), strict=True)))
    columns = min(4, len(tasks))
    across = -(-len(tasks) // columns)
    figure, axes = panels(across, columns, max(2.3, 9.6 / columns / 1.2), 0.8 + 0.3 * len(rows), sharey=True)
    styles, titles = styles_of(method.id for method in study.methods.values()), titles_of(study)
    for axis, task in zip(axes, tasks, strict=False):
        own = lines[lines["task"] == task]
        metric = own["metric"].iloc[0]
        scale, (least, most) = scale_of(metric), bounds_of(metric)
        for height, (number, _) in enumerate(rows):
            for line in own[own["id"] == number].itertuples():
                style = styles[number]
                values = seeds[(seeds["task"] == task) & (seeds["method"] == line.method)]["value"].dropna()
                axis.scatter(scale * values, [height + 0.25] * len(values), s=16, facecolors="none", edgecolors=SOFT)
                if np.isfinite(line.mean):
                    _clipped(
                        axis,
                        height,
                        scale * line.low,
                        scale * line.high,
                        scale * most,
                        style.color,
                        1.3,
                        1.0,
                        scale * least,
                    )
                    axis.plot(scale * line.mean, height, style.marker, color=style.color, zorder=4)
                if np.isfinite(line.majority) and height == 0:
                    axis.axvline(scale * line.majority, color=SOFT, linestyle=":", linewidth=1.2)
        axis.set_title(titles[task])
        axis.set_xlabel(metric_title(metric) + (" × 100" if is_share(metric) else ""))
    for axis in axes[len(tasks) :]:
        axis.axis("off")
    axes[0].set_yticks(range(len(rows)), [shorten(name, 34, placeholder=" …") for _, name in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


# What a row costs


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (cost, score) points that no other beats in score without a higher cost, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost_, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost_, value))
    return front


COSTS = {
    "encoder_parameters": "parameters, millions (no embeddings)",
    "latency_ms": "milliseconds for one example",
    "training_seconds": "training, seconds",
}


def cost_points(study: Study) -> pd.DataFrame:
    """Return every row's mean score over tasks (times 100 where usual) beside its costs; rows on all tasks only."""
    scores_, costs = main_lines(study, anywhere=True), main_lines(study, "efficiency", anywhere=True)
    keys = ["task", "id", "method", *axis_columns(study)]
    both = scores_.merge(costs[[*keys, "latency_ms"]], on=keys, how="left")
    both["score"] = both["mean"] * both["metric"].map(scale_of)
    both["encoder_parameters"] = both["encoder_parameters"].astype("float64") / 1e6
    grouped = both.groupby(keys[1:], sort=False)
    means = grouped[["score", *COSTS]].agg(lambda values: values.mean(skipna=False)).reset_index()
    return means[grouped.size().to_numpy() == len(study.tasks)]


def cost(study: Study) -> Figure:
    """Draw score against parameters, latency and training time; a grey line joins what nothing cheaper beats."""
    points = cost_points(study)
    shown = [name for name in COSTS if points[name].notna().any() and points["score"].notna().any()]
    if not shown:
        figure, axes = panels(1, 1, 6.4, 1.2)
        say_empty(axes[0])
        return figure
    figure, axes = panels(1, len(shown), 9.6 / 3, 2.7, sharey=True)
    styles = styles_of(method.id for method in study.methods.values())
    for axis, name in zip(axes, shown, strict=True):
        known = points[points[name].notna() & points["score"].notna()]
        front = pareto_front(zip(known[name], known["score"], strict=True))
        axis.step(*zip(*front, strict=True), where="post", color="#bbbbbb", linewidth=4, alpha=0.6, zorder=1)
        for line in known.to_dict("records"):
            style = styles[line["id"]]
            axis.plot(line[name], line["score"], style.marker, color=style.color, alpha=0.9, zorder=3)
        axis.set_xlabel(COSTS[name])
        axis.margins(x=0.12)
    metrics = {metric_title(metric) for metric in main_lines(study)["metric"]}
    title = f"{metrics.pop()} × 100" if len(metrics) == 1 else "mean score over tasks"
    axes[0].set_ylabel(title)
    legend_below(figure, study, points["id"].unique())
    return figure


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
    figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


# Sweeps and learning curves


def sweep(study: Study, axis: str) -> Figure:
    """Draw scores against a varied key, one panel per task; the teacher is a dashed line."""
    lines = main_lines(study, anywhere=True)
    for other in axis_columns(study):
        if other != axis:
            at = shown_point(cells_of(study)).get(other)
            lines = lines[(lines[other] == at) | ~lines["method"].isin(_moving(study, other))]
    tasks, titles = list(study.tasks), titles_of(study)
    columns = min(3, len(tasks))
    figure, axes = panels(-(-len(tasks) // columns), columns, 9.6 / 3 if columns > 1 else 5.4, 2.7)
    styles, moving = styles_of(m.id for m in study.methods.values()), _moving(study, axis)
    sizes = dict(zip(read_frame(study, "tasks")["task"], read_frame(study, "tasks")["train"], strict=True))
    for panel, task in zip(axes, tasks, strict=False):
        own = lines[(lines["task"] == task) & lines["mean"].notna()]
        values = [v for v in dict.fromkeys(own[own["method"].isin(moving)][axis])]
        places = _places(values, axis, sizes.get(task))
        for method, line in own.groupby("method", sort=False):
            style, scale = styles[line["id"].iloc[0]], scale_of(line["metric"].iloc[0])
            if method in moving:
                line = line.assign(x=line[axis].map(places)).sort_values("x")
                panel.plot(
                    line["x"], scale * line["mean"], marker=style.marker, color=style.color, linestyle=style.linestyle
                )
                low, high = scale * line["low"].fillna(line["mean"]), scale * line["high"].fillna(line["mean"])
                if len(moving) <= 4:
                    panel.fill_between(line["x"].astype(float), low, high, color=style.color, alpha=0.1, linewidth=0)
            else:
                panel.axhline(scale * line["mean"].iloc[0], color=style.color, linestyle="--", linewidth=1)
        panel.set_title(titles[task])
        if not len(own):
            say_empty(panel)
            continue
        if min(places.values(), default=0) > 0 and max(places.values()) / min(places.values()) > 20:
            panel.set_xscale("log")
        panel.set_xticks(list(places.values()), list(places), minor=False)
        panel.minorticks_off()
        panel.set_xlabel(axis_title(axis))
        panel.set_ylabel(metric_title(own["metric"].iloc[0]) + (" × 100" if is_share(own["metric"].iloc[0]) else ""))
    for panel in axes[len(tasks) :]:
        panel.axis("off")
    legend_below(figure, study, lines["id"].unique())
    return figure


def _moving(study: Study, axis: str) -> set[str]:
    """Return the methods that have several values of a varied key."""
    values: dict[str, set[str]] = {}
    for cell in cells_of(study):
        values.setdefault(cell.method.name, set()).add(dict(cell.point)[axis])
    return {name for name, found in values.items() if len(found) > 1}


def _places(values: Sequence[str], axis: str, full: int | None) -> dict[str, float]:
    """Return where values stand on an axis: numbers at themselves, words one after the other."""
    as_numbers = [str(full) if value == "full" and full else value for value in values]
    found = numbers(as_numbers)
    if found is None:
        return {value: float(place) for place, value in enumerate(values)}
    if axis == "select.keep" and full:
        found = [number * full if 0 < number < 1 else number for number in found]
    return dict(sorted(zip(values, found, strict=True), key=lambda pair: pair[1]))


def learning(study: Study) -> Figure:
    """Draw dev score and loss terms over epochs, mean over seeds; a bar marks where a curriculum moves on."""
    from matplotlib.lines import Line2D

    curves = at_point(study, read_frame(study, "curves"))
    tasks = [task for task in study.tasks if task in set(curves["task"])]
    terms = [q for q in dict.fromkeys(curves["quantity"]) if not q.startswith("dev_")]
    if not tasks:
        figure, axes = panels(1, 1, 6.4, 1.2)
        say_empty(axes[0])
        return figure
    rows = ["score", *terms]
    figure, axes = panels(len(rows), len(tasks), max(2.4, 9.6 / max(3, len(tasks))), 1.7)
    styles, titles = styles_of(m.id for m in study.methods.values()), titles_of(study)
    for place, axis in enumerate(axes):
        quantity, task = rows[place // len(tasks)], tasks[place % len(tasks)]
        own = curves[curves["task"] == task]
        own = own[own["quantity"].str.startswith("dev_") if quantity == "score" else own["quantity"] == quantity]
        for number, line in own.groupby("id", sort=False):
            style, mean = styles[number], line.groupby("epoch")["value"].mean()
            scale = scale_of(line["quantity"].iloc[0].removeprefix("dev_")) if quantity == "score" else 1.0
            axis.plot(
                mean.index,
                scale * mean,
                color=style.color,
                linestyle=style.linestyle,
                marker=style.marker,
                markersize=3.5,
            )
            first = line.groupby("stage", sort=False)["epoch"].min()
            moved = [epoch for epoch in first if epoch > 1 and epoch in mean.index]
            axis.plot(moved, scale * mean[moved], "|", color=style.color, markersize=11)
        if not len(own):
            say_empty(axis, "no such term")
        elif quantity != "score" and (own["value"] > 0).all():
            axis.set_yscale("log")
        axis.set_ylabel("dev score" if quantity == "score" else quantity.replace("_", " "))
        axis.set_title(titles[task] if place < len(tasks) else "")
        axis.set_xlabel("epoch" if place >= len(axes) - len(tasks) else "")
    moved_on = Line2D([], [], linestyle="none", marker="|", markersize=11, color="black", label="next stage")
    legend_below(figure, study, curves["id"].unique(), more=[moved_on])
    return figure
