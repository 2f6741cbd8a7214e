"""Whether the tables of a page under docs/results say what the CSV files in the page's folder say.

A table is known by its header, a line by its id and place, and every number must be the CSV's value rounded to the
digits shown. Pages hold the pipeline's own tables, or some of their columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from internal_kd.analysis.layout import metric_title
from internal_kd.tasks import GLUE, HIGHER_IS_BETTER

Row = dict[str, str]

# What a page brings with it where its study has them: whoever doubts a figure can look it up.
CSV_FILES = (
    "main", "comparisons", "fidelity", "fidelity_comparisons", "efficiency", "calibration", "cells", "attention",
    "attention_means",
)  # fmt: skip

# The columns that tell a table from the others, and the CSV file it shows.
KINDS = (
    ("fidelity", {"id", "agreement"}),
    ("fidelity_comparisons", {"rows", "repeated"}),
    ("efficiency", {"distillation score"}),
    ("calibration", {"ECE"}),
    ("attention", {"attention KL"}),
    ("comparisons", {"difference"}),
    ("main", {"id", "layers", "parameters"}),
)
# Where a line belongs, and what words say of it: held against nothing by itself.
WORDS = {
    "where", "task", "metric", "rows", "id", "method", "against", "layers", "examples", "reading",
    "repeats the teacher's mistakes",
}  # fmt: skip
SHARES = (
    "agreement", "agreement_std", "agreement_low", "agreement_high", "repeated", "repeated_low", "repeated_high",
    "by_chance", "excess", "excess_low", "excess_high", "same_wrong", "same_wrong_by_chance", "ece", "ece_std",
    "confidence", "accuracy", "encoder_share", "total_share", "teacher_share", "teacher_share_std",
)  # fmt: skip
SCORES = ("difference", "low", "high", "mean", "std")
# By table and column the CSV's columns, in the order of the numbers in a cell; "p 2" is a second column "p".
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "comparisons": {
        "seeds": ("seeds", "baseline_seeds"),
        "difference": ("difference",),
        "95 % interval": ("low", "high"),
        "p, predictions": ("p_predictions_holm",),
        "p, seeds": ("p_seeds_holm",),
        "p (predictions, McNemar)": ("p_predictions",),
        "after Holm": ("p_predictions_holm",),
    },
    "fidelity": {
        "seeds": ("seeds",),
        "agreement": ("agreement", "agreement_std"),
        "KL": ("divergence", "divergence_std"),
        "KL to the teacher, nats": ("divergence", "divergence_std"),
        "teacher's mistakes": ("teacher_mistakes",),
        "repeated (by chance)": ("repeated", "by_chance"),
        "mistakes repeated (by chance)": ("repeated", "by_chance"),
        "excess": ("excess", "excess_low", "excess_high"),
        "excess, points": ("excess", "excess_low", "excess_high"),
        "odds ratio": ("odds_ratio", "odds_ratio_low", "odds_ratio_high"),
        "p": ("p_repeated_holm",),
        "p after Holm": ("p_repeated_holm",),
        "same wrong answer (by chance)": ("same_wrong", "same_wrong_by_chance"),
        "p 2": ("p_same_wrong_holm",),
        "ECE": ("calibration.ece", "calibration.ece_std"),
    },
    "fidelity_comparisons": {
        "seeds": ("seeds", "baseline_seeds"),
        "agreement": ("agreement", "agreement_low", "agreement_high"),
        "KL": ("divergence", "divergence_low", "divergence_high"),
        "repeated": ("repeated", "repeated_low", "repeated_high"),
        "excess": ("excess", "excess_low", "excess_high"),
        "p": ("p_holm",),
    },
    "efficiency": {
        "parameters": ("main.encoder_parameters",),
        "of the teacher's": ("encoder_share",),
        "of the teacher's (with embeddings)": ("encoder_share", "total_share"),
        "score": ("main.mean", "main.std", "seeds"),
        "of the teacher's 2": ("teacher_share", "teacher_share_std"),
        "of the teacher's score": ("teacher_share", "teacher_share_std"),
        "distillation score": ("distillation_score", "distillation_score_std"),
        "training seconds": ("training_seconds", "training_seconds_least", "training_seconds_most"),
        "ms for 1 / 32": ("latency_ms", "latency_batch_ms"),
        "speed-up": ("speed_up", "speed_up_batch"),
    },
    "calibration": {
        "seeds": ("seeds",),
        "ECE": ("ece", "ece_std"),
        "mean confidence": ("confidence",),
        "accuracy": ("accuracy",),
    },
    "main": {"parameters": ("encoder_parameters",), "95 % interval": ("cells.low", "cells.high")},
}  # fmt: skip


def problems_with(page: Path) -> list[str]:
    """Return what a page says and its CSV files do not; ``results/<page>.md`` has its files in ``results/<page>/``."""
    text, folder = page.read_text(encoding="utf-8"), page.with_suffix("")
    tables = {path.stem: _read(path) for path in sorted(folder.glob("*.csv"))}
    named = {name for name in CSV_FILES if f"`{name}.csv`" in text or f"`{folder.name}/{name}.csv`" in text}
    problems = [f"{name}.csv is named and not in {folder.name}/" for name in sorted(named - set(tables))]
    problems += [f"{name}.csv is in {folder.name}/ and not named" for name in sorted(set(tables) - named)]
    problems += [
        f"{path} is not there"
        for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
        if not (page.parent / path).is_file()
    ]
    for header, lines in _markdown_tables(text):
        kind = next((kind for kind, columns in KINDS if columns <= set(header)), None)
        if kind is None:
            problems.append(f"no CSV file is known for a table of {', '.join(header)}")
        elif kind in tables:
            for line in lines:
                problems += _problems_with_line(kind, dict(zip(header, line, strict=True)), tables)
    return problems


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _markdown_tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    for block in re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        header: list[str] = []
        for title in rows[0]:
            header.append(title if title not in header else f"{title} 2")
        yield header, rows[2:]


def _problems_with_line(kind: str, line: Row, tables: dict[str, list[Row]]) -> list[str]:
    where = f"{kind}.csv, {' | '.join(text for name, text in line.items() if name in WORDS)}"
    found = _rows_of(kind, line, tables[kind])
    places = {(row["task"], row.get("split", "")) for row in found}
    first = [row for row in found if row.get("metric", "") == found[0].get("metric", "")]
    if not found or (kind != "main" and kind != "attention" and (len(places) > 1 or len(first) > 1)):
        return [f"{where}: {len(found)} lines"]
    problems = []
    for title, text in line.items():
        if title in WORDS:
            continue
        try:
            expected = _expected(kind, title, found, tables)
        except KeyError as error:
            problems.append(f"{where}: column {title!r} is not known ({error})")
            continue
        if not _agree(text, expected):
            problems.append(f"{where}: {title} says {text!r}, the file {expected}")
    return problems


def _rows_of(kind: str, line: Row, rows: list[Row]) -> list[Row]:
    """Return the CSV's lines of a table's line: those of its ids, and of its place as far as it names one."""
    place = " ".join(line.get(name, "") for name in ("where", "method"))
    method = line.get("method", "").split(",")[0]
    ids = re.findall(r"\d+\.\d+\w*", line.get("rows", "") or line.get("id", "") or line.get("method", ""))
    wanted = {"id": ids[0] if ids else "", "method": method if kind == "attention" else ""}
    if "against" in line or "rows" in line:
        wanted["baseline_id"] = line.get("against") or ids[1]
    depth, size = re.search(r"\bL(\d+)", place), re.search(r"\bn = (\d+)", place)
    wanted["depth"] = line.get("layers") or (depth.group(1) if depth else None)
    named_size = "where" in line or "task" in line
    wanted["examples"] = line.get("examples") or (size.group(1) if size else "full" if named_size else None)
    title = line.get("task") or line.get("where", "").split(",")[0]
    mismatched = title.endswith(" (mismatched)")
    if title := title.removesuffix(" (mismatched)"):
        wanted["task"] = {task.title: name for name, task in GLUE.items()}.get(title, title.lower())
        wanted["split"] = "dev_mismatched" if mismatched else "dev"
    found = [row for row in rows if all(row.get(name, text) == text for name, text in wanted.items() if text)]
    return [row for row in found if "metric" not in line or metric_title(row["metric"]) == line["metric"]]


def _expected(kind: str, title: str, found: list[Row], tables: dict[str, list[Row]]) -> list[float]:
    """Return the numbers of a cell, as they are shown but not rounded."""
    if kind == "attention":
        return _attention(title, found, next(_same_place(found[0], tables["attention_means"])))
    if title == "both / teacher / student / none right":
        counts = [
            float(found[0][name] or 0)
            for name in ("both_right", "only_teacher_right", "only_student_right", "both_wrong")
        ]
        return [100 * count / sum(counts) for count in counts] if sum(counts) else []
    if kind == "main" and title not in COLUMNS["main"]:
        task = next(row["task"] for row in found if _title_of(row["task"]) == title.split(" (")[0])
        own = [row for row in found if row["task"] == task]
        values = [value for row in own for value in (_value(row, "mean"), _value(row, "std")) if value is not None]
        return [*values, float(own[0]["seeds"])] if own[0]["seeds"] != "0" else [0.0]
    values = []
    for name in COLUMNS[kind][title]:
        file, _, column = name.rpartition(".")
        row = next(_same_place(found[0], tables[file])) if file else found[0]
        values.append(_value(row, column))
    return [value for value in values if value is not None]


def _title_of(task: str) -> str:
    return GLUE[task].title if task in GLUE else task.capitalize()


def _same_place(row: Row, rows: list[Row]) -> Iterator[Row]:
    names = ("task", "id", "method", "depth", "examples", "metric", "split")
    return (other for other in rows if all(row[n] == other[n] for n in names if n in row and n in other))


def _value(row: Row, column: str) -> float | None:
    if not (text := row[column]):
        return None
    is_error = not HIGHER_IS_BETTER.get(row.get("metric", "").removesuffix("_mismatched"), True)
    if column == "encoder_parameters":
        return float(text) / (1e6 if float(text) >= 1e6 else 1e3)
    return float(text) * (100 if column in SHARES or (column in SCORES and not is_error) else 1)


def _attention(title: str, found: list[Row], mean: Row) -> list[float]:
    """Return the numbers of a cell from every head's line and the line of their mean."""
    if title == "by layer":
        layers: dict[tuple[str, str], list[float]] = {}
        for row in (row for row in found if row["kl"]):
            layers.setdefault((row["student_layer"], row["teacher_layer"]), []).append(float(row["kl"]))
        return [number for (a, b), kl in layers.items() for number in (float(a), float(b), sum(kl) / len(kl))]
    if title == "ratio" and mean["id"] == mean["baseline"]:
        return []
    columns = {
        "seed": ("seed",), "dev examples": ("dev_examples",), "attention KL": ("kl", "low", "high"),
        "ratio": ("ratio", "ratio_low", "ratio_high"),
    }[title]  # fmt: skip
    return [float(mean[column]) for column in columns if mean[column]]


def _agree(text: str, expected: list[float]) -> bool:
    """Whether the numbers in a cell are the expected ones, rounded to the digits that it shows."""
    if bound := re.fullmatch(r"< ([\d.]+)", text):
        return len(expected) == 1 and expected[0] < float(bound.group(1))
    numbers = re.findall(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?", text.split(" of ")[0] if "(" in text else text)
    if len(numbers) != len(expected):
        return False
    return all(_rounds_to(value, number.replace(",", "")) for value, number in zip(expected, numbers, strict=True))


def _rounds_to(value: float, shown: str) -> bool:
    digits = len(shown.partition(".")[2])
    return abs(float(shown) - value) <= 0.5 * 10**-digits + 1e-9
