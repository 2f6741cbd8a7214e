"""Attention as heat maps: distances head by head, and some maps with their tokens side by side."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.plan.study import Study
from internal_kd.report.figures import measured_attention, nothing_to_draw, panels
from internal_kd.report.frames import read_or_empty

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


def attention_names(study: Study) -> tuple[str, ...]:
    """Return the names of the figures: two per task."""
    return tuple(f"attention_{kind}_{task}" for task in study.tasks for kind in ("heads", "maps"))


def draw_attention(study: Study) -> dict[str, Figure]:
    """Return the figures by name; one that has nothing to show says why."""
    heads, maps = measured_attention(study, "attention"), read_or_empty(study, "attention_maps")
    runs = set(study.by_fingerprint)
    drawn = {}
    for task in study.tasks:
        own = maps[(maps["task"] == task) & maps["fingerprint"].isin(runs)]
        drawn[f"attention_heads_{task}"] = head_figure(heads[heads["task"] == task])
        drawn[f"attention_maps_{task}"] = map_figure(own)
    return drawn


def head_figure(lines: pd.DataFrame) -> Figure:
    """Draw, for every row, the distance of each head of each matched layer; all panels share one scale."""
    from matplotlib.colors import PowerNorm

    known = lines[lines["kl"].notna()]
    if known.empty:
        return _empty(lines)
    groups = [(f"{number} {title}".strip(), own) for (number, title), own in known.groupby(["id", "title"], sort=False)]
    columns = min(2, len(groups))
    heads = int(known["head"].max())
    layers = max(own["student_layer"].nunique() for _, own in groups)
    across = -(-len(groups) // columns)
    figure, axes = panels(across, columns, max(3.6, 0.32 * heads + 0.9), 0.24 * layers + 0.62)
    # A few heads are far off and most are near: even steps would show the few alone.
    norm = PowerNorm(0.5, 0, float(known["kl"].max()) or 1.0)
    for axis, (title, own) in zip(axes, groups, strict=False):
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
    for axis in axes[len(groups) :]:
        axis.axis("off")
    return figure


def map_figure(lines: pd.DataFrame) -> Figure:
    """Draw maps of the teacher and of students side by side, and what sets each student off; a row is one token."""
    from matplotlib.colors import Normalize

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
        titles = [f"{line['title']}, layer {line['layer']}" for _, line in own.iterrows()]
        distances = ["", *(f", KL {kl:.2f}" for kl in own["kl"].iloc[1:])]
        for axis, values, title, distance in zip(row, maps, titles, distances, strict=False):
            axis.imshow(values, cmap=SEQUENTIAL, norm=Normalize(0, 1))
            axis.set_title(f"{shorten(title, 34, placeholder=' …')}\nhead {head}{distance}", fontsize=8)
        for axis, values, title in zip(row[len(maps) :], maps[1:], titles[1:], strict=True):
            _difference(axis, values - maps[0], Normalize(-1, 1))
            axis.set_title(f"{title.split(' ')[0]} minus teacher\nhead {head}", fontsize=8)
        for number, axis in enumerate(row):
            axis.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7)
            axis.set_yticks(range(len(tokens)), tokens if number == 0 else [""] * len(tokens), fontsize=7)
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
