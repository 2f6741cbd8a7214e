"""Your own data: a train, a dev and maybe a test file with named columns, as a task.

Rows are counted from 0 and that number is the example's id. What would train a wrong model is refused (labels that are
numbers to predict, ids, two spellings of a class); what may be meant is reported (equal or overlapping splits).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from internal_kd.data.cells import shown, text_value
from internal_kd.data.examples import FetchedTask, examples_of, own_task
from internal_kd.data.hub import files_of_splits
from internal_kd.data.labels import (
    class_indices,
    class_names,
    label_text,
    label_warnings,
    spell_alike,
    target_value,
    value_warnings,
)
from internal_kd.data.tables import check_ending, columns_of, rows_of
from internal_kd.errors import UserError
from internal_kd.params.data import FilesEntry
from internal_kd.plan.artefacts import Data


@dataclass(frozen=True)
class OwnFiles:
    """What the parameters say about a user's files.

    Attributes:
        task: the task's name, for error lines.
        files: by split: train, dev and, if given, test.
        text: one or two columns.
        label: the label's column.
        kind: "classes" or "values".
        labels: the classes in their order; found in the training file if None.
    """

    task: str
    files: Mapping[str, Path]
    text: tuple[str, ...]
    label: str
    kind: str = "classes"
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class OwnSplit:
    """One file: texts by column, and class indices or values by row; None for a test file."""

    texts: list[list[str]]
    labels: list[int] | list[float] | None


@dataclass(frozen=True)
class OwnTask:
    """What the files hold: classes (none for values), splits, and what is suspicious, one line each."""

    labels: tuple[str, ...]
    splits: dict[str, OwnSplit]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """One file as read: where each row is, texts by column, and the label's column, empty for a test file."""

    path: Path
    places: list[str]
    texts: list[list[str]]
    labels: list[str]
    targets: list[float]


def read_own_files(given: OwnFiles) -> OwnTask:
    """Read a task from the user's files.

    Raises:
        UserError: a file cannot be read, a column is missing, a text is empty, a label or target is not one, the labels
            look like numbers or ids, or the training file has fewer than two labels or values. The line names the file
            and, if there is one, the line or row.
    """
    read = {split: _read(path, given, labelled=not split.startswith("test")) for split, path in given.files.items()}
    # The training file first: if it has no examples or one class, the dev file would seem to be wrong.
    _check_train(given, read["train"])
    if given.kind == "values":
        splits = {split: OwnSplit(rows.texts, rows.targets or None) for split, rows in read.items()}
        return OwnTask((), splits, value_warnings(read["train"].targets))
    names = given.labels or class_names(given.task, given.files["train"], read["train"].labels)
    splits = {split: OwnSplit(rows.texts, _indices(rows, names, given)) for split, rows in read.items()}
    counts = Counter(read["train"].labels)
    return OwnTask(names, splits, label_warnings(names, counts, listed=given.labels is not None))


def fetch_own_files(data: Data) -> FetchedTask:
    """Read the task that the parameters describe; errors as ``read_own_files``."""
    entry = data.entry
    assert isinstance(entry, FilesEntry)
    given = OwnFiles(
        task=data.name,
        files=files_of_splits(data),
        text=entry.text,
        label=entry.label,
        kind=entry.kind,
        labels=None if entry.labels is None else tuple(map(str, entry.labels)),
    )
    read = read_own_files(given)
    splits = {
        split: examples_of(range(len(rows.texts[0])), rows.texts, rows.labels, kind=entry.kind)
        for split, rows in read.splits.items()
    }
    return own_task(data, read.labels, splits, texts=len(entry.text), warnings=read.warnings)


def read_texts(path: Path, choices: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Read texts without labels; other columns are not read.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        choices: what the one or two text columns may be called, best first.

    Returns:
        One list per column.

    Raises:
        UserError: the file cannot be read, has none of these columns or no rows, or a text is empty.
    """
    found = columns_of(path)
    columns = next((choice for choice in choices if set(choice) <= set(found)), None)
    if columns is None:
        wanted = " or ".join(" and ".join(map(repr, choice)) for choice in choices)
        if len(choices) == 1:  # the reader's own line has the nearest name
            columns = choices[0]
        else:
            raise UserError(f"{path}: no column {wanted}; it has {shown(found)}")
    texts: list[list[str]] = [[] for _ in columns]
    for place, values in rows_of(path, columns):
        for column_texts, text in zip(texts, _texts(values, columns, path, place), strict=True):
            column_texts.append(text)
    if not texts[0]:
        raise UserError(f"{path} has no rows; give a file with texts")
    return texts


def _check_train(given: OwnFiles, train: _Read) -> None:
    if not train.places:
        raise UserError(f"tasks.{given.task}: train has no examples; give a file with rows")
    seen = set(train.targets) if given.kind == "values" else set(train.labels)
    if len(seen) < 2:
        what = "value" if given.kind == "values" else "label"
        raise UserError(
            f"tasks.{given.task}: all {len(train.places)} training examples have the {what} {next(iter(seen))!r}; "
            "training needs at least two"
        )


def _indices(rows: _Read, names: Sequence[str], given: OwnFiles) -> list[int] | None:
    if not rows.labels:
        return None
    return class_indices(rows.labels, rows.places, names, rows.path, given.task, listed=given.labels is not None)


def _read(path: Path, given: OwnFiles, *, labelled: bool) -> _Read:
    check_ending(path)
    read = _Read(path, [], [[] for _ in given.text], [], [])
    known = given.labels or ()
    # Of a pair, one may be missing: null, or a key that an object of JSON Lines does not have.
    pair = len(given.text) == 2
    label = (given.label,) if labelled else ()
    columns, optional = (label, given.text) if pair else ((*given.text, *label), ())
    for place, values in rows_of(path, columns, optional):
        cells = dict(zip((*columns, *optional), values, strict=True))
        texts = _texts([cells[column] for column in given.text], given.text, path, place)
        read.places.append(place)
        for column_texts, text in zip(read.texts, texts, strict=True):
            column_texts.append(text)
        if labelled and given.kind == "values":
            read.targets.append(target_value(cells[given.label], path, place, given.label))
        elif labelled:
            read.labels.append(label_text(cells[given.label], path, place, given.label, known))
    read.labels[:] = spell_alike(read.labels, known)
    return read


def _texts(values: Sequence[object], columns: Sequence[str], path: Path, place: str) -> list[str]:
    pair = len(columns) == 2
    found = [
        text_value(value, path, place, column, may_be_empty=pair) for value, column in zip(values, columns, strict=True)
    ]
    if not any(text.strip() for text in found):
        raise UserError(f"{path} {place}: {' and '.join(columns)} empty; give a text or remove the row")
    return found
