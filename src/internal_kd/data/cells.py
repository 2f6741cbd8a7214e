"""Single cells of tables that people bring, as texts, and lists of names for error lines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.files import TO_UTF8

# Of a number that training, in fp32, can hold.
LARGEST = 3.4e38


def shown(names: Iterable[Any], most: int = 12) -> str:
    """Return names for an error line, the rest of many counted."""
    listed = [str(name) for name in names]
    first = ", ".join(name if len(name) <= 40 else f"{name[:40]}..." for name in listed[:most])
    return f"{first}, ... ({len(listed)})" if len(listed) > most else first


def text_value(value: Any, path: Path, place: str, column: str, *, may_be_empty: bool = False) -> str:
    """Return a cell as text, as it is; a missing one is an empty text if it may be.

    Raises:
        UserError: it is missing, of another type, or not Unicode.
    """
    if value is None or (isinstance(value, float) and value != value):
        if may_be_empty:
            return ""
        raise UserError(f"{path} {place}: column {column!r} is empty (null); give a text or remove the row")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        tags = ", or for words with tags set kind: tags" if isinstance(value, list) else ""
        raise UserError(f"{path} {place}: column {column!r} is not a text but {named_type(value)}; give a text{tags}")
    return unicode_value(str(value), path, place, column)


def number_in(value: Any) -> float:
    """Return a cell as a number up to ``LARGEST``, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= LARGEST else math.nan


def unicode_value(text: str, path: Path, place: str, column: str) -> str:
    """Return a text, refusing half characters: bytes that were not UTF-8, or what JSON spells as ``\\ud800``.

    Raises:
        UserError: there is one.
    """
    if not text.isascii():
        for character in text:
            if "\udc80" <= character <= "\udcff":
                byte = f"byte 0x{ord(character) - 0xDC00:02x}"
                raise UserError(f"{path} {place}: column {column!r} is not UTF-8 ({byte}): {TO_UTF8}")
            if "\ud800" <= character <= "\udfff":
                raise UserError(f"{path} {place}: column {column!r} has half a character (a lone surrogate): fix it")
    return text


def named_type(value: Any) -> str:
    """Return a value's type with its article, for error lines."""
    if value is None:
        return "empty (null)"
    kinds = {"dict": "object", "Decimal": "decimal number", "bytes": "bytes value", "bool": "true/false value"}
    name = kinds.get(type(value).__name__, type(value).__name__)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
