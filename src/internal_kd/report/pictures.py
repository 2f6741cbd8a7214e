"""Figures made of images: attention as heat maps, soft decision trees, and distilled examples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.plan.study import Study
from internal_kd.report.cells import primary_rows
from internal_kd.report.figures import grid, nothing_to_draw, panels
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.words import is_known

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Array = np.ndarray

# Falls in lightness, so that it reads the same in grey: light is near the teacher.
SEQUENTIAL, DIVERGING = "magma_r", "PuOr_r"
# Differences of at least this probability carry their sign, because a diverging scale loses it in grey.
SIGNED = 0.1
LONGEST_TOKEN = 12
TREE_PICTURES = ("filters", "paths")
# Distilled examples that are shown.
MOST_EXAMPLES = 20


def pictures_of(study: Study) -> dict[str, Callable[[StudyFrames], Figure]]:
    """Return the figures by name, and what draws each; one that has nothing to show says why."""
    found: dict[str, Callable[[StudyFrames], Figure]] = {}
    for task in study.tasks:
        found |= {f"attention_heads_{task}": partial(head_figure, task=task)}
        found |= {f"attention_maps_{task}": partial(map_figure, task=task)}
    for task in dict.fromkeys(run.task for run in study.runs if run.method.learner.kind == "soft_tree"):
        found |= {
            f"tree_{picture}_{task}": partial(tree_figure, picture=picture, task=task) for picture in TREE_PICTURES
        }
    for task in dict.fromkeys(run.task for run in study.runs if run.method.learner.kind == "distilled_set"):
        found |= {f"distilled_{task}": partial(distilled_figure, task=task)}
    return found


def head_figure(frames: StudyFrames, task: str) -> Figure:
    """Draw, for every row, the distance of each head of each matched layer; all panels share one scale."""
    from matplotlib.colors import PowerNorm

    lines = frames.measured("attention")
    lines = lines[lines["task"] == task]
    known = lines[lines["kl"].notna()]
    if known.empty:
        return _empty(lines)
    groups = [(f"{number} {title}".strip(), own) for (number, title), own in known.groupby(["id", "title"], sort=False)]
    heads = int(known["head"].max())
    layers = max(own["student_layer"].nunique() for _, own in groups)
    figure, axes = grid(len(groups), 2, max(3.6, 0.32 * heads + 0.9), 0.24 * layers + 0.62)
    # A few heads are far off and most are near: even steps would show the few alone.
    norm = PowerNorm(0.5, 0, float(known["kl"].max()) or 1.0)
    for axis, (title, own) in zip(axes, groups, strict=True):
        values = own.pivot(index="student_layer", columns="head", values="kl").to_numpy(float)
        axis.imshow(values, cmap=SEQUENTIAL, norm=norm, aspect="auto")
        for (layer, head), value in np.ndenumerate(values):
            dark = norm(value) > 0.5
            axis.text(
                head, layer, _short(value), ha="center", va="center", fontsize=6.5, color="white" if dark else "black"
            )
        pairs = own[["student_layer", "teacher_layer"]].drop_duplicates().itertuples(index=False)
        axis.set_yticks(range(len(values)), [f"{s} → {t}" for s, t in pairs])
        axis.set_xticks(range(values.shape[1]), [str(head + 1) for head in range(values.shape[1])])
        axis.set_title(f"{shorten(title, 40, placeholder=' …')}: mean {own['kl'].mean():.2f}", fontsize=8)
        _plain(axis)
    return figure


def map_figure(frames: StudyFrames, task: str) -> Figure:
    """Draw maps of the teacher and of students side by side, and what sets each student off; a row is one token."""
    from matplotlib.colors import Normalize

    lines = frames["attention_maps"]
    lines = lines[(lines["task"] == task) & lines["fingerprint"].isin(frames.study.by_fingerprint)]
    if lines.empty:
        return _empty(lines)
    groups = list(lines.groupby(["idx", "head"], sort=False))
    students = groups[0][1]["model"].eq("student").sum()
    longest = max(len(tokens) for tokens in lines["tokens"])
    side = max(2.0, 0.135 * longest)
    columns = 1 + 2 * students
    figure, axes = panels(len(groups), columns, side + 0.15, side + 0.55)
    grid = [axes[row * columns : (row + 1) * columns] for row in range(len(groups))]
    for row, ((_, head), own) in zip(grid, groups, strict=True):
        tokens = [_token(token) for token in own["tokens"].iloc[0]]
        maps = [np.array(values, float).reshape(len(tokens), len(tokens)) for values in own["probabilities"]]
        for axis, values, line in zip(row, maps, own.to_dict("records"), strict=False):
            axis.imshow(values, cmap=SEQUENTIAL, norm=Normalize(0, 1))
            below = f"layer {line['layer']}, head {head}" + (f", KL {line['kl']:.2f}" if is_known(line["kl"]) else "")
            axis.set_title(f"{shorten(line['title'], 34, placeholder=' …')}\n{below}", fontsize=8)
        for axis, values, title in zip(row[len(maps) :], maps[1:], own["title"].iloc[1:], strict=True):
            _difference(axis, values - maps[0], Normalize(-1, 1))
            axis.set_title(f"{title.split(' ')[0]} minus teacher\nhead {head}", fontsize=8)
        for number, axis in enumerate(row):
            axis.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7)
            axis.set_yticks(range(len(tokens)) if number == 0 else [], tokens if number == 0 else [], fontsize=7)
            _plain(axis)
    return figure


def _difference(axis: Axes, difference: Array, norm: Normalize) -> None:
    axis.imshow(difference, cmap=DIVERGING, norm=norm)
    for marker, at in (("+", difference >= SIGNED), ("_", difference <= -SIGNED)):
        queries, keys = np.nonzero(at)
        axis.scatter(keys, queries, marker=marker, s=12, color="black", linewidths=0.7)


def _token(token: Any) -> str:
    text = str(token)
    return text if len(text) <= LONGEST_TOKEN else f"{text[: LONGEST_TOKEN - 1]}…"


def _plain(axis: Axes) -> None:
    axis.grid(False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _short(value: float) -> str:
    """Return a value in three characters: ``.05``, ``1.2``, ``12``."""
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"[1:]


def _empty(lines: pd.DataFrame) -> Figure:
    why = next((text for text in lines.get("problem", []) if text), "not measured")
    return nothing_to_draw(f"no attention to show: {why}")


def tree_figure(frames: StudyFrames, picture: str, task: str) -> Figure:
    """Draw a tree's upper filters over what the branches below them answer, or some examples on their ways."""
    lines = frames["tree_pictures"]
    lines = lines[(lines["task"] == task) & (lines["picture"] == picture)]
    if lines.empty:
        return nothing_to_draw("no tree's weights are here")
    rows, columns = (int(lines[name].max()) + 1 for name in ("row", "column"))
    figure, axes = panels(rows, columns, 0.8, 0.9)
    for axis in axes:
        axis.axis("off")
    for line in lines.to_dict("records"):
        axis = axes[line["row"] * columns + line["column"]]
        # On two lines, or long class names would run into the next panel.
        axis.set_title(line["heading"].replace(", ", ",\n"), fontsize=6, pad=2)
        if line["image"] is None:
            axis.text(0.5, 0.5, line["words"], transform=axis.transAxes, ha="center", va="center", fontsize=6)
            continue
        image = np.stack(line["image"])
        if picture == "paths" and line["column"] == 0:
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        else:
            largest = float(np.abs(image).max()) or 1.0
            axis.imshow(image, cmap=DIVERGING, vmin=-largest, vmax=largest)
    return figure


def distilled_figure(frames: StudyFrames, task: str) -> Figure:
    """Draw a distilled set, that of the study's question if it has one; below each example a bar for every class."""
    lines = frames["distilled_examples"]
    lines = lines[lines["task"] == task]
    if lines.empty:
        return nothing_to_draw("no distilled set's weights are here")
    asked = lines[lines["method"].isin(primary_rows(frames.study)[0])]
    lines = asked if len(asked) else lines
    lines = lines[lines["method"] == lines["method"].iloc[0]][:MOST_EXAMPLES]
    columns, width = (10, 0.75) if lines["image"].notna().all() else (3, 2.2)
    columns = min(columns, len(lines))
    rows = -(-len(lines) // columns)
    figure, axes = panels(2 * rows, columns, width, 0.8)
    for axis in axes:
        axis.axis("off")
    for place, line in enumerate(lines.to_dict("records")):
        above = 2 * (place // columns) * columns + place % columns
        if line["image"] is not None:
            axes[above].imshow(np.stack(line["image"]), cmap="gray_r")
        else:
            axes[above].text(0.5, 0.5, fill(line["words"], 36), ha="center", va="center", fontsize=5)
        label = axes[above + columns]
        label.bar(range(len(line["answer"])), line["answer"], color="0.4")
        label.axhline(0, color="0.7", linewidth=0.5)
        label.set_title(line["label"].split(",")[0], fontsize=6, pad=2)
    return figure
