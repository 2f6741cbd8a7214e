"""Two studies, or the results of two commits, compared: what moved, by how much, beyond what seeds explain."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from internal_kd.errors import UserError
from internal_kd.params.resolve import row_label
from internal_kd.plan.identity import RESULTS
from internal_kd.report.frames import SCHEMAS
from internal_kd.report.layout import Shown, markdown
from internal_kd.report.words import count, is_better, metric_title, p_text, shown
from internal_kd.statistics import Estimate, holm
from internal_kd.statistics.estimate import sum_of_independent

SAME, WITHIN, ONE_SEED = "same runs", "within seeds", "one seed"


def compare_studies(a: str, b: str, study: str | None = None, alpha: float = 0.05) -> pd.DataFrame:
    """Return what moved from ``a`` to ``b``, one line per task, metric and row.

    Seeds explain a difference unless Welch's t test over both sides' scores, corrected after Holm, is below ``alpha``.

    Args:
        a, b: a study, a commit of ``study``, or ``<commit>:<study>``.
        study: whose results commits are looked up for.
        alpha: level of the test.

    Returns:
        A frame with task, metric, id, method, varied keys, seeds_a, mean_a, seeds_b, mean_b, difference (b minus a, in
        natural units), low, high, p, p_holm and reading: better, worse, within seeds, one seed, same runs, only in a,
        only in b.

    Raises:
        UserError: one of them has no scores.

    Example:
        >>> print(compared_text("HEAD~1", "demo", compare_studies("HEAD~1:demo", "demo")))  # doctest: +SKIP
    """
    sides = [read_scores(name, study) for name in (a, b)]
    known = [column for column in SCHEMAS["scores"] if column != "*"]
    axes = [column for side in sides for column in side.columns if column not in known]
    keys = ["task", "metric", "id", "method", "examples", *dict.fromkeys(axes)]
    groups = [_by_row(side, keys) for side in sides]
    lines = [
        _moved(keys, key, groups[0].get(key), groups[1].get(key)) for key in dict.fromkeys([*groups[0], *groups[1]])
    ]
    for line, p in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p_holm"] = p
        if not line["reading"]:
            moved = "better" if is_better(line["metric"], line["difference"]) else "worse"
            line["reading"] = moved if p < alpha else WITHIN
    columns = [*keys, "seeds_a", "mean_a", "seeds_b", "mean_b", "difference", "low", "high", "p", "p_holm", "reading"]
    return pd.DataFrame(lines, columns=columns)


def read_scores(name: str, study: str | None = None) -> pd.DataFrame:
    """Return the scores of a study, or of a study at a commit, from its ``tables/scores.csv``.

    Git has the tables, and not the frames: they alone can be read at any commit.

    Raises:
        UserError: there are none.
    """
    path = RESULTS / name / "tables" / "scores.csv"
    if path.is_file():
        return pd.read_csv(path, dtype=dict.fromkeys(("id", "examples"), str))
    commit, _, of = name.partition(":")
    of = of or study or ""
    if not of:
        raise UserError(f"{path} does not exist: evaluate study {name!r} first, or name a commit as <commit>:<study>")
    place = f"{commit}:{(RESULTS / of / 'tables' / 'scores.csv').as_posix()}"
    shown_ = subprocess.run(["git", "show", place], capture_output=True, text=True, check=False, cwd=Path.cwd())
    if shown_.returncode:
        raise UserError(f"neither {path} nor {place} exists: evaluate the study first, or commit its tables")
    return pd.read_csv(io.StringIO(shown_.stdout), dtype=dict.fromkeys(("id", "examples"), str))


def _by_row(side: pd.DataFrame, keys: list[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    # A key that one side does not vary is empty there.
    filled = side.reindex(columns=[*side.columns, *(key for key in keys if key not in side)])
    filled[keys] = filled[keys].astype(object).where(filled[keys].notna(), "")
    return {tuple(map(str, key)): own for key, own in filled.groupby(keys, sort=False)}


def _moved(keys: list[str], key: tuple[Any, ...], a: pd.DataFrame | None, b: pd.DataFrame | None) -> dict[str, Any]:
    line: dict[str, Any] = {**dict(zip(keys, key, strict=True)), "p": np.nan, "reading": ""}
    for side, scores in (("a", a), ("b", b)):
        line[f"seeds_{side}"] = 0 if scores is None else len(scores)
        line[f"mean_{side}"] = np.nan if scores is None else scores["value"].mean(skipna=False)
    if a is None or b is None:
        return line | {"reading": "only in b" if a is None else "only in a"}
    line["difference"] = line["mean_b"] - line["mean_a"]
    if set(a["fingerprint"]) == set(b["fingerprint"]):
        return line | {"reading": SAME}
    if min(len(a), len(b)) < 2:
        return line | {"reading": ONE_SEED}
    estimate = sum_of_independent(
        [
            Estimate(sign * line[f"mean_{side}"], scores["value"].sem(), len(scores) - 1)
            for sign, side, scores in ((-1, "a", a), (1, "b", b))
        ]
    )
    low, high = estimate.interval()
    return line | {"low": low, "high": high, "p": estimate.p}


def compared_text(a: str, b: str, moved: pd.DataFrame) -> str:
    """Return a comparison for a terminal: a summary, and every line whose runs differ."""
    different = moved[moved["reading"] != SAME]
    counts = different["reading"].value_counts()
    told = ", ".join(f"{number} {reading}" for reading, number in counts.items()) or "nothing moved"
    summary = f"{a} to {b}: {count(len(moved), 'score')}, {len(moved) - len(different)} of the same runs; {told}"
    lines = tuple(
        (
            line["task"], row_label(line["id"], line["method"]), metric_title(line["metric"]), line["reading"],
            shown(line["metric"], line["mean_a"]), shown(line["metric"], line["mean_b"]),
            shown(line["metric"], line["difference"], sign=True), p_text(line["p_holm"]),
        )
        for line in different.to_dict("records")
    )  # fmt: skip
    header = ("task", "method", "metric", "reading", a, b, "moved by", "p")
    return f"{summary}\n\n{markdown(Shown('', header, lines, 'llllrrrr'))}" if lines else f"{summary}\n"
