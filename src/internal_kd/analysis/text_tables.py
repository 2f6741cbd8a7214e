"""Tables as people read them: one laid-out table of texts, written as Markdown and as LaTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from internal_kd.files import write_text

# A tabular cannot break over pages.
LINES_PER_PAGE = 40


@dataclass(frozen=True)
class TextTable:
    """A laid-out table: header, lines of equal length, and what a reader must know to read them.

    ``columns`` is LaTeX's alignment, one letter per column; ``rules`` are the lines before which LaTeX draws a rule.
    """

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    columns: str
    notes: tuple[str, ...] = ()
    rules: tuple[int, ...] = ()


def markdown(table: TextTable) -> str:
    """Return a table and its notes as Markdown."""
    rows = [table.header, ("---",) * len(table.header), *table.lines]
    return "\n".join([*(_pipe(row) for row in rows), "", "\n\n".join(table.notes)]).rstrip() + "\n"


def latex(table: TextTable) -> str:
    """Return a booktabs tabular to \\input, a longtable where a page is too short; packages and notes in comments."""
    is_long = len(table.lines) > LINES_PER_PAGE
    environment = "longtable" if is_long else "tabular"
    packages = "booktabs,longtable" if is_long else "booktabs"
    out = [f"% needs \\usepackage{{{packages}}}", f"\\begin{{{environment}}}{{{table.columns}}}", "\\toprule"]
    out += [_tex_line(table.header), "\\midrule", *(["\\endhead"] if is_long else [])]
    for position, line in enumerate(table.lines):
        out += ["\\midrule"] if position in table.rules else []
        out.append(_tex_line(line))
    notes = [f"% {' '.join(note.split())}" for note in table.notes]
    return "\n".join([*out, "\\bottomrule", f"\\end{{{environment}}}", *notes]) + "\n"


def write_text_table(folder: Path, name: str, table: TextTable) -> None:
    """Write ``<name>.md`` and ``<name>.tex``."""
    write_text(folder / f"{name}.md", markdown(table))
    write_text(folder / f"{name}.tex", latex(table))


# "<", ">" and "|" are other characters in LaTeX's default font encoding; "[" after a line's end would be its argument.
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "[": "{[}", "]": "{]}",
    "<": "$<$", ">": "$>$", "|": "$|$", "×": r"$\times$", "∞": r"$\infty$", "α": r"$\alpha$",
    "→": r"$\to$",
}  # fmt: skip


def _tex_line(texts: tuple[str, ...]) -> str:
    return " & ".join(_tex(text) for text in texts) + " \\\\"


def _tex(text: str) -> str:
    plain = " ".join(text.split())
    return re.sub("|".join(re.escape(c) for c in _TEX), lambda match: _TEX[match.group()], plain)


def _pipe(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
