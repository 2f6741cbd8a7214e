"""How far students' attention is from the teacher's, as heat maps over layers and heads, and some maps side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.analysis.attention_text import kl_text
from internal_kd.analysis.built import attention_maps_path, figure_paths, recorded_key, tables_folder
from internal_kd.analysis.cells import joined
from internal_kd.analysis.csv_files import Line, read_csv
from internal_kd.analysis.plotting import panels, save, say_empty
from internal_kd.errors import UserError
from internal_kd.files import read_json
from internal_kd.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Array = np.ndarray

# Perceptually even and falling in lightness, so that it reads the same in grey: light is near the teacher.
SEQUENTIAL = "magma_r"
DIVERGING = "PuOr_r"
# Differences of at least this probability carry their sign, for a diverging scale loses it in grey.
SIGNED = 0.1
LONGEST_TOKEN = 12


@dataclass(frozen=True)
class HeadMap:
    """One student's divergences, (layers, heads), None with the reason where there are none."""

    title: str
    dev_examples: int
    kl: Array | None
    layers: tuple[tuple[int, int], ...]
    problem: str


def plot_attention_kl(study: Study, task: str) -> Path:
    """Draw, for every method, the attention KL of each student layer and head; all panels share one scale.

    Raises:
        UserError: the table is missing or not whole.
    """
    from matplotlib.colors import PowerNorm

    key, maps, name = recorded_key(study), read_head_maps(study, task), f"attention_kl_{task}"
    known = [one.kl for one in maps if one.kl is not None]
    heads, layers = max((kl.shape[1] for kl in known), default=12), max((kl.shape[0] for kl in known), default=3)
    columns = 1 if len(maps) < 2 else 2
    rows = max(1, -(-len(maps) // columns))
    cell = (0.235 * heads, 0.17 * layers)
    figure, axes = _placed(
        [(0.28 + row * (cell[1] + 0.4), cell[1]) for row in range(rows)], columns, cell[0], left=0.5, below=0.82
    )
    flat = [axis for line in axes for axis in line]
    # A few heads are far off and most are near: even steps would show the few alone.
    norm = PowerNorm(0.5, 0, max((float(kl.max()) for kl in known), default=0.0) or 1.0)
    for axis, one in zip(flat, maps, strict=False):
        _draw_heads(axis, one, norm)
    for axis in flat[len(maps) :]:
        axis.axis("off")
    if not maps:
        say_empty(flat[0], "the study has no students")
    if known:
        _bar(
            figure,
            norm,
            SEQUENTIAL,
            (0.25, 0.75),
            "attention KL to the teacher (nats)\nsquare-root scale; columns: heads",
        )
    save(figure, study, name, key)
    return figure_paths(study, name)[0]


def _placed(
    rows: Sequence[tuple[float, float]], columns: int, width: float, *, left: float, below: float
) -> tuple[Figure, list[list[Axes]]]:
    """Return panels where they are told to be, in inches: rows are (top, height), ``below`` is the room under the last.

    Maps have hundreds of texts: a layout engine would measure each of them, and take longer than the drawing.
    """
    gap = 0.14 if columns > 2 else left + 0.1
    whole = (left + columns * width + (columns - 1) * gap + 0.1, sum(rows[-1]) + below)
    figure, axes = panels(len(rows), columns, whole[0] / columns, whole[1] / len(rows))
    figure.set_layout_engine("none")
    for (top, height), line in zip(rows, axes, strict=True):
        for column, axis in enumerate(line):
            x, y = left + column * (width + gap), whole[1] - top - height
            axis.set_position((x / whole[0], y / whole[1], width / whole[0], height / whole[1]))
    return figure, axes


def _bar(figure: Figure, norm: Normalize, colours: str, across: tuple[float, float], label: str) -> None:
    """Draw a colour bar at the bottom, from one share of the figure's width to another."""
    from matplotlib.cm import ScalarMappable

    inches = figure.get_figheight()
    own = figure.add_axes((across[0], 0.46 / inches, across[1] - across[0], 0.07 / inches))
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=own, orientation="horizontal")
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_visible(False)


def read_head_maps(study: Study, task: str) -> list[HeadMap]:
    """Return a task's lines of attention.csv as one map per student, in their order.

    Raises:
        UserError: the table is missing or not whole.
    """

    def build(lines: Iterable[Line]) -> list[HeadMap]:
        found: dict[tuple[str, str], list[Line]] = {}
        for line in lines:
            if line["task"] == task:
                found.setdefault((line["id"], line["method"]), []).append(line)
        return [_head_map(study, identity, of_student) for identity, of_student in found.items()]

    return read_csv(tables_folder(study) / "attention.csv", "map-attention", build)


def caption_of_kl(title: str, students: str, maps: Sequence[HeadMap]) -> str:
    """Return what a reader must know to read a task's figure over layers and heads; ``students`` says of which."""
    examples = max((one.dev_examples for one in maps), default=0)
    return (
        f"{title}, {students}: attention KL to the teacher, in nats, of every head of every matched layer (student → "
        f"teacher), mean over {examples} dev examples. One student a method, that of the first seed whose weights are "
        "kept. All panels share one scale; light is near the teacher."
    )


def _head_map(study: Study, identity: tuple[str, str], lines: Sequence[dict[str, str]]) -> HeadMap:
    number, method = identity
    title = f"{number} {study.methods[method].title}" if method in study.methods else method.capitalize()
    if not lines[0]["kl"]:
        return HeadMap(title, 0, None, (), lines[0]["problem"])
    layers = tuple(dict.fromkeys((int(line["student_layer"]), int(line["teacher_layer"])) for line in lines))
    values = np.array([float(line["kl"]) for line in lines])
    return HeadMap(title, int(lines[0]["dev_examples"]), values.reshape(len(layers), -1), layers, "")


def _draw_heads(axis: Axes, one: HeadMap, norm: Normalize) -> None:
    title = shorten(one.title, 44, placeholder=" …")
    if one.kl is None:
        _title(axis, title)
        say_empty(axis, fill(one.problem, 40))
        return
    _title(axis, f"{title}: mean {kl_text(float(one.kl.mean()))}")
    axis.imshow(one.kl, cmap=SEQUENTIAL, norm=norm, aspect="auto")
    for layer, line in enumerate(one.kl):
        for head, value in enumerate(line):
            colour = "white" if norm(value) > 0.5 else "black"
            axis.text(head, layer, _short(value), ha="center", va="center", fontsize=6, color=colour)
    _label(axis, [f"{own} → {taught}" for own, taught in one.layers], 6, below=False)
    _label(axis, [str(head + 1) for head in range(one.kl.shape[1])], 6, below=True, rotation=0)
    axis.set_axis_off()


def _short(value: float) -> str:
    """Return a value in three characters: ``.05``, ``1.2``, ``12``."""
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"[1:]


def plot_attention_maps(study: Study, task: str) -> Path:
    """Draw some maps of the teacher and of two students side by side, and what sets each student off its teacher.

    Raises:
        UserError: the maps are missing or not whole.
    """
    key, shown, name = recorded_key(study), read_shown(study, task), f"attention_maps_{task}"
    if shown["problem"]:
        figure, axes = panels(1, 1, 6.4, 1.2)
        say_empty(axes[0][0], fill(f"No maps: {shown['problem']}", 70))
    else:
        figure = _draw_task(shown)
    save(figure, study, name, key)
    return figure_paths(study, name)[0]


def read_shown(study: Study, task: str) -> dict[str, Any]:
    """Return what attention_maps.json holds of a task.

    Raises:
        UserError: it is missing or not whole.
    """
    try:
        return read_json(attention_maps_path(study))["tasks"][task]
    except (UserError, KeyError, TypeError):
        raise UserError(
            f"{attention_maps_path(study)} is missing or not whole: run internal-kd map-attention first"
        ) from None


def caption_of_maps(title: str, students: str, shown: dict[str, Any]) -> str:
    """Return what a reader must know to read a task's maps: by which rule these were chosen, and none by its looks."""
    if shown["problem"]:
        return f"{title}, {students}: no attention maps to show ({shown['problem']})."
    low, high = shown["lengths"]
    examples = joined([str(example["idx"]) for example in shown["examples"]])
    heads = joined([str(head) for head in shown["heads"]])
    return (
        f"{title}, {students}: attention in layer {shown['student_layer']} of the students beside that in layer "
        f"{shown['teacher_layer']} of the teacher; a row is the token that attends. Heads {heads}: those of this layer "
        f"in which {shown['students'][0]['id']} is furthest from the teacher, mean over the measured dev examples. Dev "
        f"examples {examples}: of the measured ones the lowest ids among those of {low} to {high} tokens, or nearest "
        "to that. KL: in nats, of this map."
    )


def _draw_task(shown: dict[str, Any]) -> Figure:
    from matplotlib.colors import Normalize

    students, heads, examples = shown["students"], shown["heads"], shown["examples"]
    columns, side = 1 + 2 * len(students), 1.4
    # Tokens stand below the last head of an example.
    tops = [
        0.6 + number * (len(heads) * (side + 0.24) + 0.62) + place * (side + 0.24)
        for number in range(len(examples))
        for place in range(len(heads))
    ]
    figure, axes = _placed([(top, side) for top in tops], columns, side, left=0.75, below=1.3)
    both = [(np.array(example["teacher"]), np.array(example["students"])) for example in examples]
    signed = Normalize(-1, 1)
    for number, (example, (teacher, learned)) in enumerate(zip(examples, both, strict=True)):
        for place, head in enumerate(heads):
            line = axes[number * len(heads) + place]
            maps = [teacher[place], *(of_student[place] for of_student in learned)]
            for axis, values in zip(line, maps, strict=False):
                axis.imshow(values, cmap=SEQUENTIAL, norm=Normalize(0, 1))
            for axis, values in zip(line[len(maps) :], maps[1:], strict=True):
                _draw_difference(axis, values - maps[0], signed)
            titles = [f"head {head}", *(f"KL {kl_text(kl[place])}" for kl in example["kl"] * 2)]
            for axis, title in zip(line, titles, strict=True):
                _title(axis, title)
            _label_tokens(line, example["tokens"], below=place == len(heads) - 1)
    headings = [f"Teacher, layer {shown['teacher_layer']}", *(f"{s['id']} {s['title']}" for s in students)]
    headings += [f"{student['id']} minus teacher" for student in students]
    for axis, heading in zip(axes[0], headings, strict=True):
        _title(axis, f"{fill(heading, 26, max_lines=2, placeholder=' …')}\n{axis.get_title(loc='left')}")
    left = (1 + len(students)) / columns
    _bar(figure, Normalize(0, 1), SEQUENTIAL, (0.1, left - 0.06), "attention probability\n(down: attending token)")
    _bar(figure, signed, DIVERGING, (left + 0.04, 0.96), f"student minus teacher\n(+, −: by {SIGNED:g} or more)")
    return figure


def _draw_difference(axis: Axes, difference: Array, norm: Normalize) -> None:
    axis.imshow(difference, cmap=DIVERGING, norm=norm)
    for marker, at in (("+", difference >= SIGNED), ("_", difference <= -SIGNED)):
        queries, keys = np.nonzero(at)
        axis.scatter(keys, queries, marker=marker, s=9, color="black", linewidths=0.6)


def _label_tokens(line: Sequence[Axes], tokens: Sequence[str], *, below: bool) -> None:
    labels = [token if len(token) <= LONGEST_TOKEN else f"{token[: LONGEST_TOKEN - 1]}…" for token in tokens]
    # As high as a token's share of the panel, and no higher than the rest of the text.
    size = max(2.5, min(6.0, 88 / len(labels)))
    for number, axis in enumerate(line):
        if number == 0:
            _label(axis, labels, size, below=False)
        if below:
            _label(axis, labels, size, below=True)
        axis.set_axis_off()


def _label(axis: Axes, texts: Sequence[str], size: float, *, below: bool, rotation: float = 90) -> None:
    """Write a text at every row, or below every column: many times quicker than ticks."""
    for place, text in enumerate(texts):
        if below:
            where: dict[str, Any] = {"x": place, "y": -0.03, "transform": axis.get_xaxis_transform()}
            how: dict[str, Any] = {"ha": "center", "va": "top", "rotation": rotation}
        else:
            where = {"x": -0.015, "y": place, "transform": axis.get_yaxis_transform()}
            how = {"ha": "right", "va": "center"}
        axis.text(s=text, **where, **how, fontsize=size, parse_math=False)


def _title(axis: Axes, text: str) -> None:
    # Its place is told: to find one, matplotlib would measure all that is drawn.
    axis.set_title(text, loc="left", fontsize=7, y=1.0, pad=3, parse_math=False)
