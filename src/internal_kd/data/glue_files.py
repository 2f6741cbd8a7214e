"""GLUE's official TSV files, read as they really are.

UTF-8 with or without a byte order mark, LF or CRLF line ends, quotes that mean nothing, tabs that always separate, no
header in CoLA, and a few rows of QQP with missing fields. Columns are found by their headers, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from internal_kd.data.cells import number_in
from internal_kd.data.examples import Examples, FetchedTask, examples_of, rows_by_split
from internal_kd.data.file_kinds import check_file_kind
from internal_kd.errors import UserError
from internal_kd.params.data import GlueEntry
from internal_kd.plan.artefacts import Data
from internal_kd.tasks.glue import GLUE, GlueTask, TsvLayout

# These files spell their labels out; the others write the class index.
LABELS_IN_WORDS = ("mnli", "qnli", "rte")
# The official QQP train file has a few broken rows, which everybody leaves out.
BROKEN_ROWS_KNOWN = ("qqp",)
INDEX_COLUMNS = ("index", "id")
MISSING_FIELDS, NO_GOLD_LABEL = "missing fields", "no gold label"


@dataclass(frozen=True)
class _Columns:
    """Positions of the columns of one file; ``width`` is the number of fields of a row."""

    text: tuple[int, ...]
    label: int | None
    idx: int | None
    width: int

    def complete(self, fields: list[str]) -> bool:
        """Whether every needed field is there.

        A field too many is harmless behind the label; where texts come last it is a tab inside one of them.
        """
        last = max(*self.text, -1 if self.label is None else self.label)
        return last < len(fields) and (len(fields) <= self.width or self.label == last)


def read_glue_folder(data: Data) -> FetchedTask:
    """Read a GLUE task from its official TSV files.

    Raises:
        UserError: a file that is not UTF-8 or has no rows, a missing column, a row without its fields, or a label that
            is not one of the task's; the line names file and line.
    """
    assert data.glue is not None and isinstance(data.entry, GlueEntry)
    task = GLUE[data.glue]
    files = {split: path for split, path in data.files.items() if split in task.splits}
    splits = {split: _read_split(task, task.splits[split], path) for split, path in files.items()}
    info = replace(task.info(rows_by_split(splits), "local files"), name=data.name)
    folder = data.entry.folder
    return FetchedTask(info if folder in (None, task.title) else replace(info, title=Path(str(folder)).name), splits)


def _read_split(task: GlueTask, layout: TsvLayout, path: Path) -> Examples:
    lines = _lines(path)
    columns = _columns(layout, path, lines)
    dropped: Counter[str] = Counter()
    rows: list[int] = []
    own_idx: list[str] = []
    texts: list[list[str]] = [[] for _ in columns.text]
    labels: list[float] = []
    for row, (number, line) in enumerate(lines):
        fields = line.split("\t")
        if not columns.complete(fields):
            if task.name not in BROKEN_ROWS_KNOWN:
                raise UserError(
                    f"{path} line {number} has {len(fields)} fields instead of {columns.width}: fix or remove it"
                )
            dropped[MISSING_FIELDS] += 1
            continue
        if task.name == "mnli" and columns.label is not None and fields[columns.label] == "-":
            dropped[NO_GOLD_LABEL] += 1
            continue
        if columns.label is not None:
            labels.append(_label(task, fields[columns.label], path, number))
        rows.append(row)
        own_idx.append("" if columns.idx is None else "".join(fields[columns.idx : columns.idx + 1]))
        for column, position in zip(texts, columns.text, strict=True):
            column.append(fields[position])
    values = None if columns.label is None else labels if task.kind == "values" else [int(label) for label in labels]
    return examples_of(_idx(own_idx, rows), texts, values, kind=task.kind, dropped=dict(dropped))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    # Texts contain characters that str.splitlines would break at, so only LF and CRLF end a line.
    check_file_kind(path, expected="text")
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as handle:
            for number, line in enumerate(handle, start=1):
                if line := line.removesuffix("\n").removesuffix("\r"):
                    yield number, line
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): convert it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _columns(layout: TsvLayout, path: Path, lines: Iterator[tuple[int, str]]) -> _Columns:
    if not layout.header:
        text, label = tuple(map(int, layout.text)), None if layout.label is None else int(layout.label)
        return _Columns(text, label, None, max(*text, label or 0) + 1)
    header = next(lines, (0, ""))[1].split("\t")
    if header == [""]:
        raise UserError(f"{path} is empty; put the official file in its place")

    def position(name: str | int) -> int:
        if name not in header:
            raise UserError(f"{path} has no column {name!r}; its columns are {', '.join(header)}")
        if header.count(str(name)) > 1:
            raise UserError(f"{path} has the column {name!r} twice: put the official file in its place")
        return header.index(str(name))

    text = tuple(position(name) for name in layout.text)
    label = None if layout.label is None else position(layout.label)
    idx = next((header.index(name) for name in INDEX_COLUMNS if name in header), None)
    return _Columns(text, label, idx, len(header))


def _label(task: GlueTask, text: str, path: Path, number: int) -> float:
    if task.kind == "values":
        low, high = task.label_range or (float("-inf"), float("inf"))
        value = number_in(text)
        if not low <= value <= high:
            raise UserError(f"{path} line {number}: score {text[:40]!r} is not a number from {low:g} to {high:g}")
        return value
    known = task.labels if task.name in LABELS_IN_WORDS else tuple(str(i) for i in range(len(task.labels)))
    if text not in known:
        raise UserError(f"{path} line {number}: label {text[:40]!r} is not one of {task.title}'s: {', '.join(known)}")
    return known.index(text)


def _idx(own: list[str], rows: list[int]) -> list[int]:
    """Return GLUE's own example ids where every row has a different one, row numbers (from 0) otherwise."""
    if own and all(text.isascii() and text.isdecimal() and len(text) < 18 for text in own):
        ids = [int(text) for text in own]
        if len(set(ids)) == len(ids):
            return ids
    return rows
