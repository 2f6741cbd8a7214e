"""Figures over costs, varied keys and epochs: the Pareto front, sweeps, learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from internal_kd.report.cells import shown_point
from internal_kd.report.efficiency import with_latency
from internal_kd.report.figures import MOST_PANELS, grid, legend_below, logarithmic, nothing_to_draw, panels, say_empty
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.words import axis_title, numbers, scale_of, score_title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def sweep_name(axis: str) -> str:
    """Return the name of the figure over a varied key."""
    return f"sweep_{axis.replace('.', '_')}"


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
    "multiply_adds": "multiply-adds of one example, millions",
    "latency_ms": "milliseconds for one example",
    "training_seconds": "training, seconds",
}


def cost_points(frames: StudyFrames) -> pd.DataFrame:
    """Return every row's mean score over tasks (times 100 where usual) and its costs; rows on all tasks only."""
    study, both = frames.study, with_latency(frames, frames.of_main(frames["main"]))
    # What costs nothing more, such as a temperature, is held at the shown point.
    both = _at_others(frames, both, [axis for axis in study.axes if axis.startswith("learner")])
    both = both.assign(
        score=both["mean"] * both["metric"].map(scale_of),
        encoder_parameters=both["encoder_parameters"].astype("float64") / 1e6,
        multiply_adds=both["multiply_adds"].astype("float64") / 1e6,
    )
    grouped = both.groupby(["id", "method", *study.axes], sort=False)
    means = grouped[["score", *COSTS]].agg(lambda values: values.mean(skipna=False)).reset_index()
    return means[grouped.size().to_numpy() == len(study.tasks)]


def cost(frames: StudyFrames) -> Figure:
    """Draw score against each of `COSTS`; a grey line joins what nothing cheaper beats."""
    points = cost_points(frames).dropna(subset="score")
    shown = [name for name in COSTS if points[name].notna().any()]
    if not shown:
        return nothing_to_draw()
    figure, axes = panels(1, len(shown), 9.6 / 3, 2.7, sharey=True)
    for axis, name in zip(axes, shown, strict=True):
        known = points[points[name].notna()]
        front = pareto_front(zip(known[name], known["score"], strict=True))
        axis.step(*zip(*front, strict=True), where="post", color="#bbbbbb", linewidth=4, alpha=0.6, zorder=1)
        for line in known.to_dict("records"):
            style = frames.styles[line["id"]]
            axis.plot(line[name], line["score"], style.marker, color=style.color, alpha=0.9, zorder=3)
        axis.set_xlabel(COSTS[name])
        axis.margins(x=0.12)
    axes[0].set_ylabel(score_title(frames.metrics.values(), "mean score over tasks"))
    legend_below(figure, frames, points["id"].unique())
    return figure


# Sweeps and learning curves


def sweep(frames: StudyFrames, axis: str) -> Figure:
    """Draw scores against a varied key, one panel per task; the teacher is a dashed line."""
    study, lines = frames.study, _at_others(frames, frames.of_main(frames["main"]), [axis])
    lines = lines[lines["mean"].notna()]
    figure, axes = grid(len(study.tasks), 3, 9.6 / 3 if len(study.tasks) > 1 else 5.4, 2.7)
    moving = _moving(frames, axis)
    sizes = dict(zip(frames["tasks"]["task"], frames["tasks"]["train"], strict=True))
    for panel, task in zip(axes, study.tasks, strict=True):
        own = lines[lines["task"] == task]
        values = list(dict.fromkeys(own[own["method"].isin(moving)][axis]))
        places = _places(values, axis, sizes.get(task))
        for method, line in own.groupby("method", sort=False):
            style, scale = frames.styles[line["id"].iloc[0]], scale_of(line["metric"].iloc[0])
            if method in moving:
                line = line.assign(x=line[axis].map(places)).sort_values("x")
                panel.plot(line["x"], scale * line["mean"], **style.line)
                low, high = scale * line["low"].fillna(line["mean"]), scale * line["high"].fillna(line["mean"])
                if len(moving) <= 4:
                    panel.fill_between(line["x"].astype(float), low, high, color=style.color, alpha=0.1, linewidth=0)
            else:
                panel.axhline(scale * line["mean"].iloc[0], color=style.color, linestyle="--", linewidth=1)
        panel.set_title(frames.task(task))
        if not len(own):
            say_empty(panel)
            continue
        if min(places.values(), default=0) > 0 and max(places.values()) / min(places.values()) > 20:
            panel.set_xscale("log")
        panel.set_xticks(list(places.values()), list(places), minor=False)
        if max(map(len, places), default=0) > 10:
            panel.tick_params(axis="x", labelrotation=20)
        panel.minorticks_off()
        panel.set_xlabel(axis_title(axis))
        panel.set_ylabel(score_title(own["metric"]))
    legend_below(figure, frames, lines["id"].unique())
    return figure


def _at_others(frames: StudyFrames, lines: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Return the lines that are at the shown point of all varied keys but these."""
    for other in (axis for axis in frames.study.axes if axis not in axes):
        at = shown_point(frames.cells).get(other)
        lines = lines[(lines[other] == at) | ~lines["method"].isin(_moving(frames, other))]
    return lines


def _moving(frames: StudyFrames, axis: str) -> set[str]:
    """Return the methods that have several values of a varied key."""
    values: dict[str, set[str]] = {}
    for cell in frames.cells:
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


def learning(frames: StudyFrames) -> Figure:
    """Draw dev score and loss terms over epochs, mean over seeds; a bar marks where a curriculum moves on."""
    from matplotlib.lines import Line2D

    study, curves = frames.study, frames.at_point(frames["curves"])
    tasks = [task for task in study.tasks if task in set(curves["task"])]
    terms = [q for q in dict.fromkeys(curves["quantity"]) if not q.startswith("dev_")]
    if not tasks:
        return nothing_to_draw()
    # Of many tasks the dev scores alone, several rows of panels.
    rows, columns = ["score", *terms], len(tasks)
    if len(tasks) > MOST_PANELS:
        rows, columns = ["score"], MOST_PANELS
    figure, axes = grid(len(rows) * len(tasks), columns, max(2.4, 9.6 / max(3, columns)), 1.7)
    for place, axis in enumerate(axes):
        quantity, task = rows[place // len(tasks)], tasks[place % len(tasks)]
        own = curves[curves["task"] == task]
        own = own[own["quantity"].str.startswith("dev_") if quantity == "score" else own["quantity"] == quantity]
        for number, line in own.groupby("id", sort=False):
            style, mean = frames.styles[number], line.groupby("epoch")["value"].mean()
            scale = scale_of(line["quantity"].iloc[0].removeprefix("dev_")) if quantity == "score" else 1.0
            axis.plot(mean.index, scale * mean, **style.line, markersize=3.5)
            first = line.groupby("stage", sort=False)["epoch"].min()
            moved = [epoch for epoch in first if epoch > 1 and epoch in mean.index]
            axis.plot(moved, scale * mean[moved], "|", color=style.color, markersize=11)
        if not len(own):
            say_empty(axis, "no such term")
        elif quantity != "score" and (own["value"] > 0).all():
            logarithmic(axis, "y")
        axis.set_ylabel("dev score" if quantity == "score" else quantity.replace("_", " "))
        axis.set_title(frames.task(task) if quantity == "score" else "")
        axis.set_xlabel("epoch" if place >= len(axes) - len(tasks) else "")
    moved_on = Line2D([], [], linestyle="none", marker="|", markersize=11, color="black", label="next stage")
    legend_below(figure, frames, curves["id"].unique(), more=[moved_on])
    return figure
