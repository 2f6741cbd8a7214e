"""Labels of a user's own files: one spelling per class, and what is not a class although it stands in that column.

A label that many tools write for a missing one, labels that differ only in capitals or invisible characters, numbers to
predict and ids are refused or reported. ``labels:`` in the parameters has the last word: what it lists is a class.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from internal_kd.data.cells import LARGEST, named_type, number_in, shown, unicode_value
from internal_kd.errors import UserError, nearest

# How tables, spreadsheets, databases and programs write "no value", in small letters. SNLI and MNLI write "-".
# fmt: off
MISSING = frozenset([
    "", "-", "--", ".", "nan", "-nan", "none", "null", "(null)", "na", "n/a", "n.a.", "#na", "<na>", "nat", "nil",
    "\\n", "(blank)", "undefined", "1.#qnan", "-1.#ind", "#n/a", "#value!", "#ref!", "#div/0!", "#name?", "#null!",
    "#num!",
])
# fmt: on

# Python reads no longer whole number, and nobody names a class by one.
_LONGEST_NUMBER = 4000
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
# As spreadsheets show numbers: 0,5 and 5 %.
_SPREADSHEETS = re.compile(r"([-+]?\d+(?:[.,]\d+)?) ?%?", re.ASCII)
# A list written out, as of several labels: ['a', 'b'] or [1 0].
_LIST = re.compile(r"\[.*\]|\(.*,.*\)|\{.*\}", re.DOTALL)
_NOT_SEVERAL = "several labels per row are not supported"
_SEVERAL = re.compile(r"\s*[,;|]\s*")
# From this many rows on, a label in every second row is an id; from this many classes on, whole numbers may be values.
_ROWS_TO_JUDGE = 20
_MANY_CLASSES = 20
_FEW_CLASSES = 200
# Whole numbers with fewer rows per class than this are values, unless they count the classes from 0 or 1.
_FEW_ROWS = 10


def stored_names(path: Path, column: str) -> list[str] | None:
    """Return the names of a Parquet column's class numbers, if `datasets` wrote them beside the schema."""
    if path.suffix.lower() != ".parquet":
        return None
    import pyarrow.parquet as pq

    try:
        stored = json.loads((pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}"))
        feature = stored["info"]["features"][column]
        return list((feature.get("feature") or feature)["names"])
    except (KeyError, ValueError, TypeError, AttributeError, OSError):
        return None


def label_text(
    value: Any, path: Path, place: str, column: str, known: Iterable[str] = (), stored: Sequence[str] | None = None
) -> str:
    """Return a cell as the name of a class; ``known`` are those that the user lists, even words that mean "missing".

    ``stored`` are names of class numbers, as `stored_names` finds them; a number that the user lists stays a number.

    Raises:
        UserError: it is missing, or of a type that names no class, such as a list.
    """
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # Parquet and JSON may hold class 1 as 1.0
    if stored and isinstance(value, int) and 0 <= value < len(stored) and str(value) not in known:
        value = stored[value]
    if isinstance(value, float) and math.isnan(value):
        value = None
    if value is not None and not isinstance(value, str | int | float):
        hint = "give the name of a class, or a whole number"
        if isinstance(value, list | tuple | dict):
            hint = f"{_NOT_SEVERAL}; for a tag for each word set kind: tags"
        raise UserError(f"{path} {place}: column {column!r} is not a label but {named_type(value)}: {hint}")
    text = "" if value is None else unicode_value(str(value).strip(), path, place, column)
    if text.lower() in MISSING and text not in known:
        how = f" ({text!r} counts as missing; list it under `labels` if it is a class)" if text else ""
        raise UserError(f"{path} {place}: no label in column {column!r}{how}; give one or remove the row")
    if _LIST.fullmatch(text) and text not in known:
        raise UserError(
            f"{path} {place}: label {text[:40]!r} is a list: {_NOT_SEVERAL}; list it under `labels` if it is a class"
        )
    return text


def target_value(value: Any, path: Path, place: str, column: str) -> float:
    """Return a cell as a number to predict.

    Raises:
        UserError: it is missing, not finite or not a number.
    """
    if not math.isnan(number := number_in(value)):
        return number
    text = "" if value is None else str(value).strip()
    if text.lower() in MISSING:
        raise UserError(f"{path} {place}: no number in column {column!r}; give one or remove the row")
    plain = ": write it with a decimal point and without %" if _SPREADSHEETS.fullmatch(text) else ""
    plain = f" up to {LARGEST:g}" if _NUMBER.fullmatch(text) else plain
    raise UserError(f"{path} {place}: target {text[:40]!r} is not a number{plain}; a task of values needs one per row")


def spell_alike(labels: Sequence[str], known: Iterable[str] = ()) -> list[str]:
    """Return labels with one spelling for every whole number: "1.0" becomes "1" if all labels are whole numbers.

    Classes that the user listed, ``known``, stay as they are.
    """
    kept, different = set(known), set(labels)
    if not all(_is_whole(label) for label in different | kept):
        return list(labels)
    short = {label: label if label in kept else label.split(".")[0] for label in different}
    return [short[label] for label in labels]


def class_names(task: str, path: Path, labels: Sequence[str], *, images: bool = False) -> tuple[str, ...]:
    """Return the classes of a training file: whole numbers in their order, other labels sorted.

    A task of ``images`` has no values to predict.

    Raises:
        UserError: the labels look like numbers to predict or like ids, or two of them differ only in how they are
            written. What to enter if they are classes after all ends the line.
    """
    counts = Counter(labels)
    found = sorted(counts)
    way_out = f"list every class under tasks.{task}.labels"
    values = "images have classes here" if images else f"set tasks.{task}.kind: values to predict them"
    numbers = [number for label in found if (number := _spreadsheet_number(label)) is not None]
    all_numbers = len(numbers) == len(found)
    if all_numbers and any(not number.is_integer() for number in numbers):
        plain = all(_number(label) is not None for label in found)
        how = "" if plain or images else ", written with a decimal point and without %"
        raise UserError(
            f"{path}: the labels look like numbers to predict ({len(found)} different, {min(numbers):g} to "
            f"{max(numbers):g}): {values}{how}; if they are classes, {way_out}"
        )
    sparse = all_numbers and len(found) > _MANY_CLASSES and len(found) * _FEW_ROWS > len(labels)
    if len(labels) >= _ROWS_TO_JUDGE and (len(found) * 2 > len(labels) or (sparse and not _count_classes(numbers))):
        kind, hint = ("numbers to predict", values) if all_numbers else ("ids", "name the label's column")
        raise UserError(
            f"{path}: the labels look like {kind}, not like classes ({len(found)} different in {len(labels)} rows: "
            f"{shown(found, 4)}): {hint}; if they are classes, {way_out}"
        )
    written: dict[Any, str] = {}
    for label in found:
        other = written.setdefault(_essence(label), label)
        if other != label:
            raise UserError(
                f"{path}: labels {_visible(other)} and {_visible(label)} differ only in {_difference(other, label)} "
                f"({counts[other]} and {counts[label]} rows): write them alike; if they are two classes, {way_out}"
            )
    if all(_is_whole(label) for label in found):
        found.sort(key=lambda label: (int(label), label))
    return tuple(found)


def label_warnings(names: Sequence[str], counts: Counter[str], *, listed: bool, images: bool = False) -> list[str]:
    """Return what is suspicious about the classes of a training set, each in one line.

    Number and spelling of classes that the user ``listed`` are not questioned; ``images`` have no values to predict.
    """
    lines = []
    if unseen := [name for name in names if not counts[name]]:
        lines.append(f"no training example has the label {shown(map(repr, unseen), 4)}")
    if listed:
        return lines
    known = set(names)
    several = [name for name in names if len(parts := _SEVERAL.split(name)) > 1 and known.intersection(parts)]
    if several:
        lines.append(f"a label may hold several ({shown(map(repr, several), 4)}): each of these is one class here")
    if "-1" in names and "0" in names:
        lines.append(f"label '-1' counts as a class ({counts['-1']} rows): if it means 'no label', remove the rows")
    if not images and len(names) > _MANY_CLASSES and all(_is_whole(name) for name in names):
        lines.append(
            f"{len(names)} classes named by whole numbers ({names[0]} to {names[-1]}): if these are numbers to "
            "predict, set kind: values"
        )
    rare = [name for name in names if counts[name] == 1]
    if rare and sum(counts.values()) >= _ROWS_TO_JUDGE:
        others = [name for name in names if counts[name] > 1] if len(names) <= _FEW_CLASSES else []
        lines.append(
            f"{len(rare)} of {len(names)} classes have a single training example: "
            + ", ".join(f"{name!r}{nearest(name, others)}" for name in rare[:4])
            + (", ..." if len(rare) > 4 else "")
        )
    return lines


def constant_warning(split: str, labels: Sequence[Any], metrics: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return a line if all examples of a scored split have one label or value: some metrics are undefined then.

    ``labels`` are class indices or values, ``names`` the classes, empty for values.
    """
    if len(set(labels)) != 1:
        return []
    what = f"label {names[labels[0]]!r}" if names else f"value {labels[0]:g}"
    undefined = [name for name in metrics if name in ("pearson", "spearman", "matthews_correlation")]
    says = f"{', '.join(undefined)} cannot be computed" if undefined else "a score says little"
    return [f"all {len(labels)} {split} examples have the {what}: {says}"]


def value_warnings(values: Sequence[float]) -> list[str]:
    """Return what is suspicious about the numbers to predict of a training set, each in one line."""
    lines = []
    different = sorted(set(values))
    if len(different) == 2:
        lines.append(
            f"only two different values ({different[0]:g}, {different[1]:g}): if they are classes, leave out kind"
        )
    elif len(different) > 2 and different[0] == -1 and different[1] >= 0:
        count = sum(value == -1 for value in values)
        lines.append(
            f"{count} of {len(values)} values are -1, all others 0 or more: if it means 'no value', remove the rows"
        )
    return lines


def class_indices(
    labels: Sequence[str], places: Sequence[str], names: Sequence[str], path: Path, task: str, *, listed: bool
) -> list[int]:
    """Return labels as indices of classes.

    Raises:
        UserError: a label is not one of the classes; the line has the nearest.
    """
    index = {name: number for number, name in enumerate(names)}
    for label, place in zip(labels, places, strict=True):
        if label not in index:
            known = "those listed" if listed else "those in the train file"
            alike = next((name for name in names if _essence(name) == _essence(label)), None)
            if alike is not None:
                close = f": it differs from {_visible(alike)} only in {_difference(alike, label)}"
            elif label == "-1":
                close = "; -1 often means no label: give a labelled file"
            else:
                close = nearest(label, list(names)[:_FEW_CLASSES])
            raise UserError(
                f"{path} {place}: label {_visible(label[:40])} is not one of {known} ({shown(names)}){close}; "
                f"correct it, or list every class under tasks.{task}.labels"
            )
    return [index[label] for label in labels]


def _number(label: str) -> float | None:
    # Nobody writes a number with 300 digits, and it would be infinite.
    return float(label) if len(label) < 300 and _NUMBER.fullmatch(label) else None


def _spreadsheet_number(label: str) -> float | None:
    if (number := _number(label)) is not None:
        return number
    found = _SPREADSHEETS.fullmatch(label) if len(label) < 300 else None
    return float(found[1].replace(",", ".")) if found else None


def _count_classes(numbers: Sequence[float]) -> bool:
    """Whether the numbers are 0, 1, 2, ... or 1, 2, 3, ... without a gap."""
    return min(numbers) in (0, 1) and max(numbers) - min(numbers) == len(numbers) - 1


def _is_whole(label: str) -> bool:
    return len(label) < _LONGEST_NUMBER and re.fullmatch(r"-?[0-9]+(\.0*)?", label) is not None


def _essence(label: str) -> Any:
    """What is left of a label without capitals, invisible characters, spaces and forms of the same letter."""
    if (number := _number(label)) is not None:
        return number
    folded = unicodedata.normalize("NFKC", label).casefold()
    folded = "".join("-" if unicodedata.category(c) == "Pd" else c for c in folded)
    if folded in _BOOLEANS:
        return _BOOLEANS[folded]
    return " ".join("".join(c for c in folded if unicodedata.category(c) not in ("Cf", "Cc")).split())


# pandas writes True, a database 1.
_BOOLEANS = {"true": 1.0, "false": 0.0}


def _difference(first: str, second: str) -> str:
    if first.lower() == second.lower():
        return "capital letters"
    if any(unicodedata.category(c) in ("Cf", "Cc") for c in first + second):
        return "an invisible character"
    return "spelling"


def _visible(label: str) -> str:
    """A label in quotes, with characters that nobody sees as escapes."""
    return ascii(label) if any(unicodedata.category(c) in ("Cf", "Cc") for c in label) else repr(label)
