"""Laid-out tables: texts in rows, for the page, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, inf
from typing import TYPE_CHECKING

from internal_kd.files import write_text
from internal_kd.plan.study import Study
from internal_kd.report.frames import tables_folder, value_or_none
from internal_kd.report.words import DASH, axis_title, is_known, p_text, percent, with_spread

if TYPE_CHECKING:
    import pandas as pd

# From a frame's line to the text of one column.
Text = Callable[["pd.Series"], str]
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
        header: the columns' titles.
        lines: texts, as many as columns in each.
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


# Columns


def plain(column: str) -> Text:
    """Return a column's text as it is; a dash for nothing."""

    def text(line: pd.Series) -> str:
        value = value_or_none(line[column])
        return DASH if value is None else str(value)

    return text


def number(column: str, form: str = ".3f", unit: str = "") -> Text:
    """Return a column's number in a format."""
    return lambda line: f"{line[column]:{form}}{unit}".replace("-", "−") if is_known(line[column]) else DASH


def share(column: str, digits: int = 0) -> Text:
    """Return a column's share in per cent."""
    return lambda line: percent(line[column], digits)


def p_value(column: str = "p_holm") -> Text:
    """Return a column's p."""
    return lambda line: p_text(line[column])


def score(mean: str, std: str, metric: str = "") -> Text:
    """Return a score with its spread, by the line's own metric unless one is given."""
    return lambda line: with_spread(metric or line["metric"], line[mean], line[std])


@dataclass(frozen=True)
class Layout:
    """What all tables of a study share: titles of tasks and rows, the columns of varied keys."""

    study: Study
    tasks: pd.DataFrame

    @cached_property
    def _titles(self) -> dict[str, str]:
        return dict(zip(self.tasks["task"], self.tasks["title"], strict=True))

    @cached_property
    def metrics(self) -> dict[str, str]:
        """The column of each task's main metric."""
        return dict(zip(self.tasks["task"], self.tasks["metric"], strict=True))

    def task(self, name: str) -> str:
        """Return a task's title."""
        return self._titles.get(name, name)

    def row(self, line: pd.Series) -> str:
        """Return what people call a line's row: ``3.5 Stacked (SID)``."""
        method = self.study.methods.get(line["method"])
        return f"{line['id']} {method.title if method else line.get('title', line['method'])}".strip()

    @property
    def point_header(self) -> tuple[str, ...]:
        """The columns of what the study varies."""
        return tuple(axis_title(axis) for axis in self.study.axes)

    def point(self, line: pd.Series) -> tuple[str, ...]:
        """Return a line's values of what the study varies."""
        return tuple(str(line[axis]) for axis in self.study.axes)

    def of_main(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the lines under each task's main metric."""
        return frame[frame["metric"] == frame["task"].map(self.metrics)]

    def build(
        self,
        name: str,
        frame: pd.DataFrame,
        columns: dict[str, Text],
        note: str = "",
        *,
        left: int = 0,
        task: bool = True,
    ) -> Shown:
        """Return a table with a line per line of a frame: task, row, varied keys, then ``columns``.

        Args:
            name: of its CSV file.
            frame: what is shown.
            columns: texts by column title; ``left`` of them are aligned left.
            note: below the table.
            left: how many of the columns are words.
            task: whether the lines are about single tasks.
        """
        head = (*(("task",) if task else ()), "method", *self.point_header)
        lines = tuple(
            (
                *((self.task(line["task"]),) if task else ()),
                self.row(line),
                *self.point(line),
                *(text(line) for text in columns.values()),
            )
            for _, line in frame.iterrows()
        )
        align = "l" * (len(head) + left) + "r" * (len(columns) - left)
        return Shown(name, (*head, *columns), lines, align, note, fixed=len(head))
