"""Laid-out tables: texts in rows, for the page, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from internal_kd.files import write_text
from internal_kd.plan.study import Study
from internal_kd.report.frames import tables_folder, value_or_none
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.words import axis_title, percent
from internal_kd.statistics.reading import DASH, p_text

if TYPE_CHECKING:
    import pandas as pd

# In pixels.
PAGE_WIDTH = 1150
# Letters that a column of words has room for at least, if it needs them.
NARROWEST = 20
# A LaTeX tabular cannot break over pages.
LINES_PER_PAGE = 40


class Strong(str):
    """A text that is printed bold."""


@dataclass(frozen=True)
class Shown:
    """A table as people read it.

    Attributes:
        name: of its CSV file; empty if it has none.
        align: ``l`` or ``r`` per column.
        note: what a reader must know to read it, one or two sentences.
        rules: the lines before which a rule is drawn.
        fixed: how many columns name a line.
    """

    name: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    align: str
    note: str = ""
    rules: tuple[int, ...] = ()
    fixed: int = 1

    @property
    def parts(self) -> list[Shown]:
        """The table in as many parts as it takes for each to fit its page; each repeats the fixed columns."""
        widths = [_width(self, place) for place in range(len(self.header))]
        room = max(1.0, PAGE_WIDTH - sum(widths[: self.fixed]))
        # As many columns in one part as in the next.
        share = sum(widths[self.fixed :]) / max(1, ceil(sum(widths[self.fixed :]) / room))
        groups, taken = [list(range(self.fixed))], inf
        for place in range(self.fixed, len(widths)):
            taken += widths[place]
            if taken > room or taken - widths[place] >= share:
                groups.append(list(range(self.fixed)))
                taken = widths[place]
            groups[-1].append(place)
        own = groups[1:] or groups
        return [
            replace(
                self, header=tuple(self.header[k] for k in places), align="".join(self.align[k] for k in places),
                lines=tuple(tuple(line[k] for k in places) for line in self.lines),
                note=self.note if places is own[-1] else "",
            )
            for places in own
        ]  # fmt: skip


def _width(table: Shown, place: int) -> float:
    """Return about how many pixels a column takes at least; numbers are not broken over lines, words are."""
    texts, title = [line[place] for line in table.lines], table.header[place]
    longest, words = max(map(len, texts), default=0), [word for text in (title, *texts) for word in text.split()]
    if table.align[place] == "l":
        longest = min(longest, NARROWEST)
    return 7.6 * max([longest, *map(len, words if table.align[place] == "l" else title.split())]) + 21


def markdown(table: Shown) -> str:
    """Return a table and its note as Markdown."""
    rows = [table.header, tuple("--:" if a == "r" else "---" for a in table.align), *table.lines]
    return "\n".join([*("| " + " | ".join(map(_pipe, row)) + " |" for row in rows), "", table.note]).rstrip() + "\n"


def _pipe(text: str) -> str:
    plain = " ".join(text.split()).replace("|", "\\|")
    return f"**{plain}**" if isinstance(text, Strong) else plain


def latex(table: Shown) -> str:
    """Return a booktabs tabular to \\input, a longtable if a page is too short; packages and note are comments."""
    is_long = len(table.lines) > LINES_PER_PAGE
    environment, packages = ("longtable", "booktabs,longtable") if is_long else ("tabular", "booktabs")
    out = [f"% needs \\usepackage{{{packages}}}", f"\\begin{{{environment}}}{{{table.align}}}", "\\toprule"]
    out += [_tex_line(table.header), "\\midrule", *(["\\endhead"] if is_long else [])]
    for place, line in enumerate(table.lines):
        out += ["\\midrule"] if place in table.rules and place else []
        out.append(_tex_line(line))
    note = [f"% {' '.join(table.note.split())}"] if table.note else []
    return "\n".join([*out, "\\bottomrule", f"\\end{{{environment}}}", *note]) + "\n"


# "<", ">" and "|" are other characters in LaTeX's default font encoding; "[" after a line's end would be its argument.
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "−": "$-$", "[": "{[}",
    "]": "{]}", "<": "$<$", ">": "$>$", "|": "$|$", "×": r"$\times$", "∞": r"$\infty$", "α": r"$\alpha$",
    "→": r"$\to$",
}  # fmt: skip


def _tex_line(texts: Sequence[str]) -> str:
    return " & ".join(map(_tex, texts)) + " \\\\"


def _tex(text: str) -> str:
    plain = " ".join(text.split())
    escaped = re.sub("|".join(re.escape(c) for c in _TEX), lambda match: _TEX[match.group()], plain)
    return f"\\textbf{{{escaped}}}" if isinstance(text, Strong) else escaped


def write_shown(study: Study, table: Shown) -> None:
    """Write ``tables/<name>.md`` and ``.tex``."""
    write_text(tables_folder(study) / f"{table.name}.md", markdown(table))
    write_text(tables_folder(study) / f"{table.name}.tex", latex(table))


# From a frame's line to the text of a column: a function, or ``<name>:<form>`` as in ``text_of``.
Column = str | Callable[[Mapping[str, Any]], str]


def text_of(line: Mapping[str, Any], column: Column) -> str:
    """Return the text of a column in a line; a dash for what is missing.

    Example:
        >>> line = {"share": 0.571, "p": 0.0002, "speed": 3.21, "label": "yes"}
        >>> [text_of(line, column) for column in ("share:%", "share:%1", "p:p", "speed:.1f×", "label")]
        ['57 %', '57.1 %', '< 0.001', '3.2×', 'yes']
    """
    if not isinstance(column, str):
        return column(line)
    name, _, form = column.partition(":")
    value = value_or_none(line[name])
    if value is None or not form:
        return DASH if value is None else str(value)
    if form == "p":
        return p_text(value)
    if form.startswith("%"):
        return percent(value, int(form[1:] or 0))
    unit = "×" if form.endswith("×") else ""
    return f"{value:{form.removesuffix(unit)}}{unit}".replace("-", "−")


def build(
    frames: StudyFrames,
    name: str,
    lines: pd.DataFrame | Iterable[Mapping[str, Any]],
    columns: Mapping[str, Column],
    note: str = "",
    *,
    left: int = 0,
    head: Sequence[str] = ("task", "method"),
) -> Shown:
    """Return a table with a line per line of a frame: what names it, then ``columns``.

    Args:
        name: of its CSV file; empty if it has none.
        columns: by title; the first ``left`` of them are words, aligned left.
        head: what names a line; with ``method`` come the varied keys.
    """
    heads: dict[str, Column] = {"task": lambda line: frames.task(line["task"]), "method": frames.row}
    named = [(key, heads[key]) for key in head]
    if "method" in head:
        named += [(axis_title(axis), axis) for axis in frames.study.axes if axis_title(axis) not in columns]
    every = [*named, *columns.items()]
    records = lines if isinstance(lines, Iterable) and not hasattr(lines, "columns") else lines.to_dict("records")
    texts = tuple(tuple(text_of(line, column) for _, column in every) for line in records)
    align = "l" * (len(named) + left) + "r" * (len(columns) - left)
    return Shown(name, tuple(title for title, _ in every), texts, align, note, fixed=max(1, len(named)))


@dataclass(frozen=True)
class Layout:
    """How a table is laid out that needs no more than ``build``; called with a study's frames it is built.

    ``lines`` are those of the frame that has its name if left out.
    """

    name: str
    columns: Mapping[str, Column]
    note: str = ""
    left: int = 0
    head: Sequence[str] = ("task", "method")
    lines: Callable[[StudyFrames], pd.DataFrame] | None = None

    def __call__(self, frames: StudyFrames) -> Shown:
        """Return the table."""
        lines = self.lines(frames) if self.lines else frames[self.name]
        return build(frames, self.name, lines, self.columns, self.note, left=self.left, head=self.head)
