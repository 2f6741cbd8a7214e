"""The main table as people read it: Markdown and LaTeX, laid out like the paper's, times 100 with spread and seeds."""

from __future__ import annotations

import re

from internal_kd.analysis.cells import FULL, Cell, seeds_text
from internal_kd.analysis.tables import MainRow, MainTable, base_metric
from internal_kd.tasks import HIGHER_IS_BETTER

SHORT_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "matthews_correlation": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mse": "MSE",
}


def metric_title(metric: str) -> str:
    """Return a metric's name for people; the mismatched dev set is named."""
    base = base_metric(metric)
    return SHORT_NAMES.get(base, base) + (" (mismatched)" if metric != base else "")


def shown(metric: str, value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """Return a score times 100 (an error as it is), or a dash."""
    if value is None:
        return "–"
    plus = "+" if sign else ""
    if not HIGHER_IS_BETTER.get(base_metric(metric), True):
        return f"{value:{plus}.3f}"
    return f"{100 * value:{plus}.{digits}f}"


def millions(parameters: int | None) -> str:
    """Return a number of parameters as ``43.1M``; below a million in thousands."""
    if parameters is None:
        return "–"
    return f"{parameters / 1e6:.1f}M" if parameters >= 1e6 else f"{parameters / 1e3:.0f}k"


def cell_text(table: MainTable, cell: Cell | None, metrics: tuple[str, ...]) -> str:
    """Return ``91.4 ± 0.2 / 88.3 ± 0.3 (5)``: one entry per metric, then the seeds; gaps are named."""
    if cell is None:
        return ""
    rows = [table.row(cell, metric) for metric in metrics]
    seeds = seeds_text(rows[0].seeds, len(cell.runs))
    if rows[0].seeds == 0:
        return f"– ({seeds})"
    return f"{' / '.join(_value_text(row) for row in rows)} ({seeds})"


def _value_text(row: MainRow) -> str:
    if row.mean is None:
        return "undefined"
    spread = "" if row.std is None else f" ± {shown(row.metric, row.std)}"
    return shown(row.metric, row.mean) + spread


def header_of(table: MainTable) -> list[str]:
    """Return the columns' titles; training-set sizes have a column only where they differ."""
    sizes = ["examples"] if _sizes_differ(table) else []
    names = [
        f"{facts.title} ({' / '.join(metric_title(m) for m, _, _ in facts.scored)})" for facts in table.tasks.values()
    ]
    return ["id", "method", "layers", "parameters", *sizes, *names]


def lines_of(table: MainTable) -> list[list[str]]:
    """Return the laid-out table's lines as text."""
    lines = []
    for line in table.lines():
        sizes = [line.examples] if _sizes_differ(table) else []
        cells = [
            cell_text(table, table.cell(task, line), tuple(m for m, _, _ in facts.scored))
            for task, facts in table.tasks.items()
        ]
        depth = "–" if line.depth is None else str(line.depth)
        lines.append([line.id, line.title, depth, millions(_parameters(table, line)), *sizes, *cells])
    return lines


def notes_of(table: MainTable) -> list[str]:
    """Return what a reader must know to read the cells."""
    notes = [
        "Scores on the dev set, times 100: mean ± sample standard deviation over seeds (number of seeds). "
        "Parameters: encoder and pooler, without embeddings."
    ]
    if gaps := sum(len(c.runs) - table.row(c, table.tasks[c.task].scored[0][0]).seeds for c in table.cells):
        notes.append(f"{gaps} of {sum(len(c.runs) for c in table.cells)} runs are missing: see missing.csv.")
    undefined = {(r.task, metric_title(r.metric)) for r in table.rows if r.seeds and r.mean is None}
    notes += [
        f"{table.tasks[task].title}: {metric} is undefined where a run predicts one value for every example."
        for task, metric in sorted(undefined)
    ]
    return notes


def markdown_table(table: MainTable) -> str:
    """Return main.md."""
    header, lines = header_of(table), lines_of(table)
    out = [_pipe(header), _pipe(["---"] * len(header)), *(_pipe(line) for line in lines)]
    return "\n".join(out) + "\n\n" + "\n\n".join(notes_of(table)) + "\n"


def latex_table(table: MainTable) -> str:
    """Return main.tex: a booktabs tabular to \\input, with the packages it needs named in a comment."""
    header, lines = header_of(table), lines_of(table)
    out = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{ll" + "r" * 2 + "c" * (len(header) - 4) + "}",
        "\\toprule",
        " & ".join(_tex(text) for text in header) + " \\\\",
        "\\midrule",
    ]
    for position, line in enumerate(lines):
        if position == 1:
            out.append("\\midrule")
        out.append(" & ".join(_tex(text) for text in line) + " \\\\")
    notes = [f"% {note}" for note in notes_of(table)]
    return "\n".join([*out, "\\bottomrule", "\\end{tabular}", *notes]) + "\n"


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "[": "{[}", "]": "{]}",
}  # fmt: skip


def _tex(text: str) -> str:
    return re.sub("|".join(re.escape(c) for c in _TEX), lambda match: _TEX[match.group()], text)


def _pipe(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sizes_differ(table: MainTable) -> bool:
    return any(cell.examples != FULL for cell in table.cells)


def _parameters(table: MainTable, line: Cell) -> int | None:
    cells = (table.cell(task, line) for task in table.tasks)
    rows = (table.row(cell, table.tasks[cell.task].scored[0][0]) for cell in cells if cell)
    return next((row.encoder_parameters for row in rows if row.encoder_parameters is not None), None)
