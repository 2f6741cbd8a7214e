"""The CSV tables that sub-commands write for people and for each other."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from internal_kd.errors import UserError
from internal_kd.files import write_text

Read = TypeVar("Read")
Line = dict[str, str]


def write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Write a CSV table: full float precision, nothing for None, Unix line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([repr(v) if isinstance(v, float) else v for v in line] for line in lines)
    write_text(path, text.getvalue())


def read_csv(path: Path, made_by: str, build: Callable[[Iterable[Line]], Read]) -> Read:
    """Return what ``build`` makes of a table's lines; ``made_by`` is the sub-command that writes it.

    Raises:
        UserError: the table is missing, or ``build`` found a column or a number missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return build(csv.DictReader(handle))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run internal-kd {made_by} first") from None
    except (KeyError, ValueError, TypeError):
        raise UserError(f"{path} is not whole: run internal-kd {made_by} again") from None
