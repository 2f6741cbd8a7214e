"""Two studies, or the results of two commits, compared: what moved, by how much, beyond what seeds explain."""

from __future__ import annotations

import io
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from internal_kd.errors import UserError
from internal_kd.params.resolve import row_label
from internal_kd.plan.identity import RESULTS
from internal_kd.report.cells import point_text
from internal_kd.report.frames import SCHEMAS
from internal_kd.report.layout import Shown, markdown
from internal_kd.report.words import axis_title, base_metric, count, metric_title, shown
from internal_kd.statistics import Comparison, holm, lead, mean_of_seeds, reading
from internal_kd.statistics.reading import BETTER, ONE_SEED, UNDEFINED, WORSE, p_text
from internal_kd.tasks.metrics import METRICS

SAME, WITHIN = "same runs", "within seeds"
ROW = ("task", "metric", "id", "method", "examples")
FOUND = ("seeds_a", "mean_a", "seeds_b", "mean_b", "difference", "low", "high", "p", "p_holm", "reading")


def compare_studies(a: str, b: str, study: str | None = None, alpha: float = 0.05) -> pd.DataFrame:
    """Return what moved from ``a`` to ``b``, one line per task, metric and row.

    Seeds explain a difference unless Welch's t test over both sides' scores, corrected after Holm, is below ``alpha``.

    Args:
        a, b: a study, a commit of ``study``, or ``<commit>:<study>``.
        study: whose results commits are looked up for.
        alpha: level of the test.

    Returns:
        A frame with task, metric, id, method, varied keys, seeds_a, mean_a, seeds_b, mean_b, difference (b minus a, in
        natural units), low, high, p, p_holm and reading: better, worse, within seeds, one seed, not defined, same runs,
        only in a, only in b.

    Raises:
        UserError: one of them has no scores.

    Example:
        >>> print(compared_text("HEAD~1", "demo", compare_studies("HEAD~1:demo", "demo")))  # doctest: +SKIP
    """
    sides = [read_scores(name, study) for name in (a, b)]
    axes = [column for side in sides for column in side if column not in SCHEMAS["scores"]]
    keys = [*ROW, *dict.fromkeys(axes)]
    groups = [_by_row(side, keys) for side in sides]
    rows = dict.fromkeys([*groups[0], *groups[1]])
    moved = [_moved(row[keys.index("metric")], *(own.get(row) for own in groups)) for row in rows]
    ps = holm([compared.dev_p if compared else np.nan for _, compared in moved])
    lines = []
    for row, (line, compared), p in zip(rows, moved, ps, strict=True):
        if compared:
            found = reading(compared, "dev", p, alpha)
            line["reading"] = found if found in (BETTER, WORSE, ONE_SEED, UNDEFINED) else WITHIN
        lines.append(dict(zip(keys, row, strict=True)) | line | {"p_holm": p})
    return pd.DataFrame(lines, columns=[*keys, *FOUND])


def read_scores(name: str, study: str | None = None) -> pd.DataFrame:
    """Return the scores of a study, or of a study at a commit, from its ``tables/scores.csv``.

    Git has the tables, and not the frames: they alone can be read at any commit.

    Raises:
        UserError: there are none.
    """
    path = RESULTS / name / "tables" / "scores.csv"
    if path.is_file():
        return _parsed(path.read_bytes(), path.as_posix())
    commit, _, of = name.partition(":")
    of = of or study or ""
    if not of:
        raise UserError(f"{path} does not exist: evaluate study {name!r} first, or name a commit as <commit>:<study>")
    place = f"{commit}:{(RESULTS / of / 'tables' / 'scores.csv').as_posix()}"
    shown_ = subprocess.run(["git", "show", place], capture_output=True, check=False, cwd=Path.cwd())
    if shown_.returncode:
        raise UserError(f"neither {path} nor {place} exists: evaluate the study first, or commit its tables")
    return _parsed(shown_.stdout, place)


def _parsed(content: bytes, place: str) -> pd.DataFrame:
    # What names a row is text on both sides, whatever other values its column has.
    types: defaultdict[str, type] = defaultdict(lambda: str, value=float)
    try:
        found = pd.read_csv(io.BytesIO(content), dtype=types, keep_default_na=False, na_values={"value": [""]})
    except ValueError:
        found = pd.DataFrame()
    if found.empty or not {*ROW, "value", "fingerprint"} <= {*found}:
        raise UserError(f"{place} has no scores: finish a run, and evaluate the study again")
    return found


def _by_row(side: pd.DataFrame, keys: list[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    # A key that one side does not vary is empty there.
    filled = side.reindex(columns=[*keys, "value", "fingerprint"], fill_value="")
    axes = [key for key in keys if key not in ROW]
    filled[axes] = filled[axes].map(_as_point)
    return dict(iter(filled.groupby(keys, sort=False)))


def _as_point(text: str) -> str:
    """Return a value of a varied key in the one form that numbers have: 1.0 and 1 are the same point."""
    try:
        return point_text(float(text))
    except ValueError:
        return text


def _moved(metric: str, a: pd.DataFrame | None, b: pd.DataFrame | None) -> tuple[dict[str, Any], Comparison | None]:
    """Return a row's scores on both sides and, where other runs gave them, their comparison over seeds alone."""
    higher = METRICS[base_metric(metric)].higher_is_better
    means = {
        side: mean_of_seeds(scores["value"], metric, higher_is_better=higher)
        for side, scores in (("a", a), ("b", b))
        if scores is not None
    }
    line: dict[str, Any] = {"seeds_a": 0, "seeds_b": 0}
    for side, mean in means.items():
        line |= {f"seeds_{side}": mean.seeds, f"mean_{side}": mean.mean}
    if a is None or b is None:
        return line | {"reading": "only in b" if a is None else "only in a"}, None
    found = lead(means["a"], means["b"])
    line["difference"] = found.difference
    if set(a["fingerprint"]) == set(b["fingerprint"]):
        return line | {"reading": SAME}, None
    return line | {"low": found.dev_low, "high": found.dev_high, "p": found.dev_p}, found


def compared_text(a: str, b: str, moved: pd.DataFrame) -> str:
    """Return a comparison for a terminal: a summary, and every line whose runs differ."""
    different = moved[moved["reading"] != SAME]
    counts = different["reading"].value_counts()
    told = ", ".join(f"{number} {reading}" for reading, number in counts.items()) or "nothing moved"
    summary = f"{a} to {b}: {count(len(moved), 'score')}, {len(moved) - len(different)} of the same runs; {told}"
    varied = [key for key in moved if key not in (*ROW, *FOUND) or key == "examples"]
    axes = [key for key in varied if moved[key].nunique() > 1]
    lines = tuple(
        (
            line["task"], row_label(line["id"], line["method"]), *(line[axis] for axis in axes),
            metric_title(line["metric"]), line["reading"],
            shown(line["metric"], line["mean_a"]), shown(line["metric"], line["mean_b"]),
            shown(line["metric"], line["difference"], sign=True), p_text(line["p_holm"]),
        )
        for line in different.to_dict("records")
    )  # fmt: skip
    header = ("task", "method", *map(axis_title, axes), "metric", "reading", a, b, "moved by", "p")
    align = "ll" + "l" * len(axes) + "llrrrr"
    return f"{summary}\n\n{markdown(Shown('', header, lines, align))}" if lines else f"{summary}\n"
