"""Markdown from the code: tables, and docstrings as prose."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/internal_kd"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; pipes inside cells are escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def summary(text: str | None) -> str:
    """Return a docstring's first paragraphs, up to its first section (Attributes, Example, ...)."""
    lines = textwrap.dedent("    " + (text or "")).splitlines()
    end = next(
        (n for n, line in enumerate(lines) if re.fullmatch(r"\s*(Attributes|Args|Example|Raises):", line)), len(lines)
    )
    paragraphs = "\n".join(line.strip() for line in lines[:end]).strip().split("\n\n")
    return "\n\n".join(prose(part) for part in paragraphs)


def prose(text: str) -> str:
    """Return text of a docstring in one line, its code spans as Markdown has them, other marks escaped."""
    text = re.sub(r"``([^`]+)``", r"`\1`", " ".join(text.split()))
    parts = text.split("`")
    for n, part in enumerate(parts):
        if n % 2 == 0:
            part = part.replace("<", "&lt;").replace(">", "&gt;")
            parts[n] = re.sub(r"([*\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", part)
    return "`".join(parts)


def code_names(names: Iterable[str]) -> str:
    """Return names in backticks, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)
