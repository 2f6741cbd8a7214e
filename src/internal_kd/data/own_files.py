"""One's own data: CSV, TSV, JSON Lines or Parquet files with named columns.

Texts are kept as they stand: "NA" and "null" are words. CSV follows its standard quoting; in TSV a quote is a
character like any other, as in GLUE. Rows are counted from 0 and that number is the example's id.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from internal_kd.artefacts import TaskData
from internal_kd.data.tasks_on_disk import UNLABELLED, Examples, FetchedTask, check_task, examples_of, metrics_of
from internal_kd.errors import UserError, nearest
from internal_kd.params.sources import FilesEntry

# Python reads no longer whole number; nobody means one as a class.
LONGEST_NUMBER = 4000

# A row: where it stands (for the error line) and its values by column.
Row = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class _Split:
    """One file as read: texts by column, and labels as text (None for a test file without them)."""

    path: Path
    where: list[str]
    texts: list[list[str]]
    labels: list[str] | None


def read_own_files(data: TaskData) -> FetchedTask:
    """Read a task from the user's files.

    Raises:
        UserError: a file cannot be read, a column is missing, a text is empty, or a label or target is not one; the
            line names the file and, where there is one, the line or row. Or nothing can be learnt from the train file.
    """
    entry = data.entry
    assert isinstance(entry, FilesEntry)
    read = {split: _read(path, entry, data.name, labelled=split != "test") for split, path in data.files.items()}
    regression = entry.type == "regression"
    names = () if regression else _label_names(entry, read["train"])
    task = FetchedTask(
        title=data.name,
        source="own files",
        licence=entry.licence,
        labels=names,
        metrics=metrics_of(data.name, entry, 1 if regression else len(names)),
        regression=regression,
        splits={"train": _examples(read.pop("train"), names, entry, data.name)},
    )
    # Before the others: of a train file without examples or with one class, the dev file would be found at fault.
    check_task(data.name, task)
    others = {split: _examples(rows, names, entry, data.name) for split, rows in read.items()}
    return replace(task, splits=task.splits | others)


def _label_names(entry: FilesEntry, train: _Split) -> tuple[str, ...]:
    """Return the classes as given, or those found in train: whole numbers in their order, other labels sorted."""
    if entry.labels is not None:
        return tuple(str(label) for label in entry.labels)
    found = set(train.labels or ())
    if all(label.removeprefix("-").isdecimal() and len(label) < LONGEST_NUMBER for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def _examples(split: _Split, names: tuple[str, ...], entry: FilesEntry, task: str) -> Examples:
    regression = entry.type == "regression"
    idx = range(len(split.where))
    if split.labels is None:
        return examples_of(idx, split.texts, [UNLABELLED] * len(idx), regression=regression)
    if regression:
        targets = [_target(text, split.path, where) for text, where in zip(split.labels, split.where, strict=True)]
        return examples_of(idx, split.texts, targets, regression=True)
    index = {name: number for number, name in enumerate(names)}
    for label, where in zip(split.labels, split.where, strict=True):
        if label not in index:
            known = "those given" if entry.labels else "those in the train file"
            raise UserError(
                f"{split.path} {where}: label {label[:40]!r} is none of {known} ({_shown(names)})"
                f"{nearest(label, names)}; list every class under tasks.{task}.labels"
            )
    return examples_of(idx, split.texts, [index[label] for label in split.labels])


def _target(text: str, path: Path, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path} {where}: target {text[:40]!r} is no number; a regression task needs one in every row")
    return value


def _read(path: Path, entry: FilesEntry, task: str, *, labelled: bool) -> _Split:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"tasks.{task}: {path} is none of {', '.join(_READERS)}; convert it or rename it to what it is")
    wanted = (*entry.text, entry.label) if labelled else entry.text
    where: list[str] = []
    texts: list[list[str]] = [[] for _ in entry.text]
    labels: list[str] = []
    try:
        for place, row in reader(path):
            for column in wanted:
                if column not in row:
                    raise UserError(
                        f"{path} {place}: no column {column!r}{nearest(column, list(row))}; it has {_shown(tuple(row))}"
                    )
            values = [_text(row[column], path, place, column) for column in entry.text]
            if not any(value.strip() for value in values):
                raise UserError(f"{path} {place}: {' and '.join(entry.text)} empty; give a text or remove the row")
            where.append(place)
            for column_texts, value in zip(texts, values, strict=True):
                column_texts.append(value)
            if labelled:
                labels.append(_label(row[entry.label], path, place, entry.label))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): convert it to UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path} is no whole {path.suffix[1:].upper()} file ({error}): mend it") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read ({reason}): is it whole, and what its name says?") from None
    return _Split(path, where, texts, labels if labelled else None)


def _text(value: Any, path: Path, place: str, column: str) -> str:
    if isinstance(value, float) and math.isnan(value):
        value = None  # how tables of numbers write a missing value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        kind = "empty (null)" if value is None else f"no text but {type(value).__name__}"
        raise UserError(f"{path} {place}: column {column!r} is {kind}; give a text")
    return _unicode(str(value), path, place, column)


def _unicode(text: str, path: Path, place: str, column: str) -> str:
    # JSON can spell half of a surrogate pair, which no file of UTF-8 can hold.
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{path} {place}: column {column!r} holds half a character (a lone surrogate); mend it")
    return text


def _label(value: Any, path: Path, place: str, column: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # Parquet and JSON may hold class 1 as 1.0
    if value is None or str(value).strip() in ("", "nan") or not isinstance(value, str | int | float):
        raise UserError(f"{path} {place}: no label in column {column!r}; give one or remove the row")
    return _unicode(str(value).strip(), path, place, column)


def _separated(path: Path, separator: str, quoting: int) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
        header = next(reader, [])
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise UserError(f"{path} has the column {repeated[0]!r} twice: rename one")
        for fields in reader:
            if not fields:
                continue
            place = f"line {reader.line_num}"
            if len(fields) != len(header):
                raise UserError(
                    f"{path} {place} has {len(fields)} fields, its header {len(header)}: quote or remove what separates"
                )
            yield place, dict(zip(header, fields, strict=True))


def _csv(path: Path) -> Iterator[Row]:
    return _separated(path, ",", csv.QUOTE_MINIMAL)


def _tsv(path: Path) -> Iterator[Row]:
    return _separated(path, "\t", csv.QUOTE_NONE)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line, object_pairs_hook=partial(_object, f"{path} line {number}"))
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{path} line {number} is no JSON ({error}): JSON Lines has one object a line"
                ) from None
            if not isinstance(value, dict):
                raise UserError(f"{path} line {number} is no JSON object: JSON Lines has one object a line")
            yield f"line {number}", value


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{where} has the column {repeated!r} twice: rename one")
    return made


def _parquet(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{path} has the column {repeated[0]!r} twice: rename one")
        row = 0
        for batch in file.iter_batches(8192):
            for value in batch.to_pylist():
                yield f"row {row}", value
                row += 1


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}


def _shown(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown}, ... ({len(names)})" if len(names) > 12 else shown
