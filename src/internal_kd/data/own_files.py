"""Your own data: a train, a dev and maybe a test file with named columns, as a task.

Rows are counted from 0 and that number is the example's id. What would train a wrong model is refused (labels that are
numbers to predict, ids, two spellings of a class); what may be meant is reported (equal or overlapping splits).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from internal_kd.data.cells import shown, text_value
from internal_kd.data.examples import FetchedTask, check_split, examples_of, own_task
from internal_kd.data.hub import files_of_splits
from internal_kd.data.labels import (
    class_indices,
    class_names,
    label_text,
    label_warnings,
    spell_alike,
    stored_names,
    target_value,
    value_warnings,
)
from internal_kd.data.tables import check_ending, columns_of, rows_of
from internal_kd.errors import UserError
from internal_kd.params.data import FilesEntry
from internal_kd.plan.artefacts import Data


class _Rows(NamedTuple):
    """One file as read: where each row is, texts by column, and labels or targets, none of a test file."""

    path: Path
    places: list[str]
    texts: list[list[str]]
    labels: list[str]
    targets: list[float]


def fetch_own_files(data: Data) -> FetchedTask:
    """Read the task that the parameters describe, with what is suspicious about it.

    Raises:
        UserError: a file cannot be read, a column is missing, a text is empty, a label or target is not one, the labels
            look like numbers or ids, or the training file has fewer than two labels or values. The line names the file
            and, if there is one, the line or row.
    """
    entry = data.entry
    assert isinstance(entry, FilesEntry)
    listed = None if entry.labels is None else tuple(map(str, entry.labels))
    read = {
        split: _read(path, entry, listed or (), labelled=not split.startswith("test"))
        for split, path in files_of_splits(data).items()
    }
    train = read["train"]
    if entry.kind == "values":
        names: tuple[str, ...] = ()
        warnings = value_warnings(train.targets)
    else:
        names = listed or class_names(data.name, train.path, train.labels)
        warnings = label_warnings(names, Counter(train.labels), listed=listed is not None)
    splits = {}
    for split, rows in read.items():
        labels: list[int] | list[float] | None = rows.targets or None
        if rows.labels:
            labels = class_indices(rows.labels, rows.places, names, rows.path, data.name, listed=listed is not None)
        splits[split] = examples_of(range(len(rows.places)), rows.texts, labels, kind=entry.kind)
        # The training file first: if it has no examples or one class, the dev file would seem to be wrong.
        check_split(data.name, split, splits[split], names)
    return own_task(data, names, splits, texts=len(entry.text), warnings=warnings)


def read_texts(path: Path, choices: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Read texts without labels, one list per column; other columns are not read.

    ``choices`` are what the one or two text columns may be called, best first.

    Raises:
        UserError: the file cannot be read, has none of these columns or no rows, or a text is empty.
    """
    found = columns_of(path)
    # Where there is no choice, the reader's own line has the nearest name.
    columns = next((choice for choice in choices if set(choice) <= set(found) or len(choices) == 1), None)
    if columns is None:
        requested = " or ".join(" and ".join(map(repr, choice)) for choice in choices)
        raise UserError(f"{path}: no column {requested}; it has {shown(found)}")
    rows = [_texts(values, columns, path, place) for place, values in rows_of(path, columns)]
    if not rows:
        raise UserError(f"{path} has no rows; give a file with texts")
    return list(map(list, zip(*rows, strict=True)))


def _read(path: Path, entry: FilesEntry, known: Sequence[str], *, labelled: bool) -> _Rows:
    check_ending(path)
    read = _Rows(path, [], [[] for _ in entry.text], [], [])
    label = (entry.label,) if labelled else ()
    # Of a pair, one may be missing: null, or a key that an object of JSON Lines does not have.
    columns, optional = (label, entry.text) if len(entry.text) == 2 else ((*entry.text, *label), ())
    stored = stored_names(path, entry.label) if labelled else None
    for place, values in rows_of(path, columns, optional):
        cells = dict(zip((*columns, *optional), values, strict=True))
        read.places.append(place)
        texts = _texts([cells[column] for column in entry.text], entry.text, path, place)
        for column_texts, text in zip(read.texts, texts, strict=True):
            column_texts.append(text)
        if labelled and entry.kind == "values":
            read.targets.append(target_value(cells[entry.label], path, place, entry.label))
        elif labelled:
            read.labels.append(label_text(cells[entry.label], path, place, entry.label, known, stored))
    return read._replace(labels=spell_alike(read.labels, known))


def _texts(values: Sequence[object], columns: Sequence[str], path: Path, place: str) -> list[str]:
    pair = len(columns) == 2
    found = [
        text_value(value, path, place, column, may_be_empty=pair) for value, column in zip(values, columns, strict=True)
    ]
    if not any(text.strip() for text in found):
        raise UserError(f"{path} {place}: {' and '.join(columns)} empty; give a text or remove the row")
    return found
