"""Tables that people bring: CSV, TSV, JSON Lines and Parquet with named columns, read row by row.

Only the columns asked for are read: a broken value elsewhere does no harm. Texts are kept as they are, so "NA" and
"null" are words. CSV follows its standard quoting; in TSV a quotation mark is a character like any other, as in GLUE.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from internal_kd.data.cells import shown
from internal_kd.data.file_kinds import check_file_kind
from internal_kd.errors import UserError, nearest
from internal_kd.files import TO_UTF8

if TYPE_CHECKING:
    import pyarrow as pa

# Where a row is ("line 7" of a text file, "row 6" of Parquet) and its values, in the order of the columns asked for.
Row = tuple[str, tuple[Any, ...]]

_Columns = Callable[[Path], tuple[str, ...]]
_Rows = Callable[[Path, Sequence[str], Sequence[str]], Iterator[Row]]

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "spaces"}
_EXCELS_FIRST_LINE = re.compile(r'"?sep=(.)"?')


def columns_of(path: Path) -> tuple[str, ...]:
    """Return the names of a table's columns; for JSON Lines those of all objects together.

    Raises:
        UserError: there are none; or as for ``rows_of``.
    """
    with _in_one_line(path):
        columns = _kind_of(path)[0](path)
    if not columns:
        raise UserError(f"{path} is empty; give a file with rows")
    return columns


def rows_of(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        columns: the columns to read.
        optional: more columns; an object of JSON Lines that does not have one has None, if another object has it.

    Raises:
        UserError: the file cannot be read, or a column is missing or there twice; the line names the file and, if
            there is one, the line or row.

    Example:
        >>> Path("a.csv").write_text("text,label,note\\nfine,pos,x\\n")
        >>> list(rows_of(Path("a.csv"), ["label", "text"]))
        [('line 2', ('pos', 'fine'))]
    """
    with _in_one_line(path):
        yield from _kind_of(path)[1](path, columns, optional)


def check_ending(path: Path) -> None:
    """Refuse a file that is of no kind read here, by its name alone.

    Raises:
        UserError: its name has another ending.
    """
    if path.suffix.lower() not in _KINDS:
        if path.exists():
            check_file_kind(path, expected="text")
        how = f": jq -c '.[]' {path.name} > {path.stem}.jsonl" if path.suffix.lower() == ".json" else ""
        raise UserError(f"{path} is not one of {', '.join(_KINDS)}: convert it{how}, or rename it to what it is")


def _kind_of(path: Path) -> tuple[_Columns, _Rows]:
    check_ending(path)
    check_file_kind(path, expected="parquet" if path.suffix.lower() == ".parquet" else "text")
    return _KINDS[path.suffix.lower()]


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): {TO_UTF8}") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read ({reason}): is it complete, and what its name says?") from None


def _check_columns(
    path: Path, found: Sequence[str], columns: Sequence[str], place: str = "", way_out: str = ""
) -> None:
    counts = Counter(found)
    for column in columns:
        if column not in counts:
            where = f"{path} {place}".strip()
            raise UserError(
                f"{where}: no column {column!r}{nearest(column, list(found)[:200])}; it has {shown(found)}{way_out}"
            )
        if counts[column] > 1:
            raise UserError(f"{path} has the column {column!r} twice: rename one")


# CSV and TSV.


def _opened(path: Path) -> TextIO:
    # Bytes that are not UTF-8 become lone surrogates, so that they matter only in the columns asked for; and only a
    # line feed ends a line, because texts contain characters that look like line ends to others.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _check_first_line(path: Path, columns: Sequence[str], separator: str) -> None:
    """Refuse a file whose first line shows that it is empty or separated otherwise.

    Without columns to look for, one that has a single column and another separator in its name.
    """
    with _opened(path) as handle:
        line = handle.readline().strip("\r\n")
    if not line.strip():
        raise UserError(
            f"{path} {'begins with an empty line' if path.stat().st_size else 'is empty'}: give it a header"
        )
    if match := _EXCELS_FIRST_LINE.fullmatch(line):
        also = "" if match[1] == separator else f", and save with {_SEPARATORS[separator]}"
        raise UserError(f"{path} begins with Excel's line {line!r}: remove it{also}")

    def fits(mark: str) -> bool:
        names = {name.strip().strip('"') for name in line.split(mark)}
        return set(columns) <= names if columns else len(names) > 1

    if fits(separator):
        return
    for other in _SEPARATORS:
        if other != separator and fits(other) and (columns or other != " "):
            way_out = {"\t": "rename it to .tsv", ",": "rename it to .csv"}.get(
                other, "save it with commas (Excel: CSV UTF-8; LibreOffice: field delimiter ,)"
            )
            raise UserError(f"{path} is separated by {_SEPARATORS[other]}, not {_SEPARATORS[separator]}: {way_out}")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line that each record ends in, and its fields; the first is the header."""
    csv.field_size_limit(2**31 - 1)
    with _opened(path) as handle:
        last = ""

        def lines() -> Iterator[str]:
            nonlocal last
            for line in handle:
                last = line
                yield line

        reader, done = csv.reader(lines(), strict=True), 0
        try:
            for fields in reader:
                yield reader.line_num, fields
                done = reader.line_num
        except csv.Error as error:
            if "\r" in last.removesuffix("\n").removesuffix("\r") and '"' not in last:
                raise _carriage_return(path, reader.line_num, last, "quote the text, or replace it") from None
            if "end of data" in str(error):
                raise UserError(f"{path}: a quotation mark opened in line {done + 1} is never closed: fix it") from None
            way_out = 'inside quotes, a quotation mark is written twice ("")'
            raise UserError(f"{path} line {reader.line_num} is not CSV ({error}): {way_out}") from None


def _tsv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t") if line else []) for number, line in lines_of(path))


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that needs no quotes, with their numbers from 1 and without their ends.

    Raises:
        UserError: a line has a carriage return inside.
    """
    with _opened(path) as handle:
        for number, line in enumerate(handle, start=1):
            content = line.rstrip("\r\n")
            if "\r" in content:
                raise _carriage_return(path, number, line, "replace it: tr '\\r' ' '")
            yield number, content


def _carriage_return(path: Path, number: int, line: str, way_out: str) -> UserError:
    if number == 1 and not line.endswith("\n"):
        return UserError(f"{path} ends its lines with a carriage return alone: convert it: tr '\\r' '\\n'")
    return UserError(f"{path} line {number} has a carriage return inside a text: {way_out}")


def _separated(
    records: Callable[[Path], Iterator[tuple[int, list[str]]]],
    separator: str,
    path: Path,
    columns: Sequence[str],
    optional: Sequence[str],
) -> Iterator[Row]:
    _check_first_line(path, [*columns, *optional], separator)
    reading = records(path)
    names = [name.strip() for name in next(reading, (0, []))[1]]
    _check_columns(path, names, [*columns, *optional], way_out="; its first line should name the columns")
    positions = [names.index(column) for column in (*columns, *optional)]
    for number, fields in reading:
        if any(fields) and len(fields) != len(names):
            way_out = "quote or remove what separates" if separator == "," else "remove the tab or line end in a text"
            has = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            raise UserError(f"{path} line {number} has {has}, its header {len(names)}: {way_out}")
        if any(fields):  # spreadsheets end in rows of separators alone
            yield f"line {number}", tuple(fields[position] for position in positions)


def _header(records: Callable[[Path], Iterator[tuple[int, list[str]]]], separator: str, path: Path) -> tuple[str, ...]:
    _check_first_line(path, (), separator)
    return tuple(name.strip() for name in next(records(path), (0, []))[1])


# JSON Lines.


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _opened(path) as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                value = json.loads(line, object_pairs_hook=partial(_object, f"{path} {place}"))
            except (ValueError, RecursionError) as error:
                whole = number == 1 and line.strip() in ("[", "{")
                hint = f": jq -c '{'.[]' if '[' in line else '.'}' {path.name} > new.jsonl" if whole else ""
                raise UserError(
                    f"{path} {place} is not JSON ({error}): JSON Lines has one object per line{hint}"
                ) from None
            if not isinstance(value, dict):
                kind = "a JSON array" if isinstance(value, list) else "not a JSON object"
                raise UserError(f"{path} {place} is {kind}: JSON Lines has one object per line (jq -c '.[]')")
            yield place, value


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise UserError(f"{where} has the column {repeated!r} twice: rename one")
    return made


def _json_lines(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    # One of the objects must have an optional column; else its name is wrong.
    unseen, seen = set(optional), dict[str, None]()
    for place, value in _objects(path):
        _check_columns(path, list(value), columns, place)
        if unseen:
            unseen.difference_update(value)
            seen |= dict.fromkeys(value)
        yield place, tuple(value.get(column) for column in (*columns, *optional))
    if unseen and seen:
        _check_columns(path, list(seen), sorted(unseen))


def _keys(path: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for _, value in _objects(path) for key in value))


# Parquet.


def _parquet(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    columns = [*columns, *optional]
    with pq.ParquetFile(path) as file:
        _check_columns(path, file.schema_arrow.names, columns)
        row = 0
        for batch in file.iter_batches(8192, columns=columns):
            for values in zip(*(_column(path, batch, column) for column in columns), strict=True):
                yield f"row {row}", values
                row += 1


def _column(path: Path, batch: pa.RecordBatch, name: str) -> list[Any]:
    import pyarrow as pa

    try:
        values: list[Any] = batch.column(name).to_pylist()
    except (pa.ArrowException, OverflowError, ValueError, ImportError) as error:
        kind = batch.schema.field(name).type
        raise UserError(
            f"{path}: column {name!r} ({kind}) has a value that cannot be read ({error}): store texts or numbers"
        ) from None
    return values


def _parquet_names(path: Path) -> tuple[str, ...]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return tuple(file.schema_arrow.names)


_KINDS: dict[str, tuple[_Columns, _Rows]] = {
    ".csv": (partial(_header, _csv_records, ","), partial(_separated, _csv_records, ",")),
    ".tsv": (partial(_header, _tsv_records, "\t"), partial(_separated, _tsv_records, "\t")),
    ".jsonl": (_keys, _json_lines),
    ".parquet": (_parquet_names, _parquet),
}
