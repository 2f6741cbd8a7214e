"""The main table as people read it: laid out like the paper's, times 100 with spread and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from internal_kd.analysis.cells import FULL, Cell, seeds_text
from internal_kd.analysis.predictions import TaskFacts
from internal_kd.analysis.tables import MainRow, MainTable, base_metric
from internal_kd.analysis.text_tables import TextTable
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

# Columns of the expected best; the largest k has one besides.
MOST_K = 5
EXPECTED_BEST_NOTE = (
    "Mean of the best dev score among k seeds drawn with replacement from those that are there (Dodge et al. 2019, "
    '"Show your work"): what trying k seeds and keeping the best by its dev score would report. Read methods at equal '
    "k. Among few seeds the best of many is understated; the means have intervals in cells.csv, these have none."
)


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


def percent(share: float | None, std: float | None = None) -> str:
    """Return a share as ``57 %``, with a spread as ``57 ± 4 %``, or a dash."""
    spread = "" if std is None else f" ± {100 * std:.0f}"
    return "–" if share is None else f"{100 * share:.0f}{spread} %"


def depth_text(depth: int | None) -> str:
    """Return a number of layers, or a dash."""
    return "–" if depth is None else str(depth)


def size_text(examples: str) -> str:
    """Return ``, n = 1000`` for a subset, nothing for the full training set."""
    return "" if examples == FULL else f", n = {examples}"


def layers_text(depth: int) -> str:
    """Return ``6 layers``, ``1 layer``."""
    return f"{depth} {'layer' if depth == 1 else 'layers'}"


def examples_text(examples: str, rows: int | None) -> str:
    """Return ``2,400 examples`` for a training-set size; for the full set its ``rows``, where they are known."""
    count = rows if examples == FULL else int(examples)
    return "all examples" if count is None else f"{count:,} examples"


def task_text(facts: TaskFacts, split: str) -> str:
    """Return a task's title, with the dev set's name where it is not the usual one."""
    return facts.title + ("" if split == "dev" else f" ({split.removeprefix('dev_')})")


def cell_text(table: MainTable, cell: Cell | None, metrics: tuple[str, ...]) -> str:
    """Return ``91.4 ± 0.2 / 88.3 ± 0.3 (5)``: one entry per metric, then the seeds; gaps are named."""
    if cell is None:
        return ""
    rows = [table.row(cell, metric) for metric in metrics]
    seeds = seeds_text(rows[0].seeds, len(cell.runs))
    if rows[0].seeds == 0:
        return f"– ({seeds})"
    return f"{' / '.join(value_text(row) for row in rows)} ({seeds})"


def value_text(row: MainRow) -> str:
    """Return a row's mean with its spread, ``91.4 ± 0.2``."""
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
        lines.append([line.id, line.title, depth_text(line.depth), millions(_parameters(table, line)), *sizes, *cells])
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


def text_table(table: MainTable) -> TextTable:
    """Return the main table laid out, the teacher's line apart."""
    header = tuple(header_of(table))
    columns = "llrr" + "c" * (len(header) - 4)
    return TextTable(header, tuple(map(tuple, lines_of(table))), columns, tuple(notes_of(table)), rules=(1,))


def expected_best_text(table: MainTable, lines: Sequence[Mapping[str, str]]) -> TextTable:
    """Return expected_best.csv under every task's first metric laid out; without lines where no row has two seeds."""
    rows: dict[tuple[str, ...], dict[int, float]] = {}
    for line in lines:
        if line["metric"] == table.tasks[line["task"]].scored[0][0]:
            key = tuple(line[name] for name in ("task", "metric", "id", "method", "depth", "examples"))
            rows.setdefault(key, {})[int(line["k"])] = float(line["value"])
    most = max((max(values) for values in rows.values()), default=0)
    ks = [k for k in range(1, most + 1) if k <= MOST_K or k == most] if most > 1 else []
    header = (
        "task",
        "metric",
        "id",
        "method",
        "layers",
        "seeds",
        *("k = 1 (mean)" if k == 1 else f"k = {k}" for k in ks),
    )
    laid_out = tuple(
        (
            table.tasks[task].title, metric_title(metric), number, method + size_text(examples), depth or "–",
            str(len(values)), *(shown(metric, values.get(k)) for k in ks),
        )
        for (task, metric, number, method, depth, examples), values in rows.items()
    )  # fmt: skip
    return TextTable(header, laid_out if ks else (), "llllrr" + "r" * len(ks), (EXPECTED_BEST_NOTE,))


def _sizes_differ(table: MainTable) -> bool:
    return any(cell.examples != FULL for cell in table.cells)


def _parameters(table: MainTable, line: Cell) -> int | None:
    cells = (table.cell(task, line) for task in table.tasks)
    rows = (table.row(cell, table.tasks[cell.task].scored[0][0]) for cell in cells if cell)
    return next((row.encoder_parameters for row in rows if row.encoder_parameters is not None), None)
