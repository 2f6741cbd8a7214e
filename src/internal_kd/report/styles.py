"""One colour, marker and line per row, the same in every figure of every study.

Colours are Okabe and Ito's, safe for colour-blind readers; with markers and lines rows differ in grey too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple


class Style(NamedTuple):
    """How a row is drawn."""

    color: str
    marker: str
    linestyle: Literal["-", "--", ":"]

    @property
    def line(self) -> dict[str, Any]:
        """The options of a line with marks."""
        return self._asdict()


_BLACK = "#000000"
_COLORS = ("#7F7F7F", "#0072B2", "#56B4E9", "#CC79A7", "#E69F00", "#009E73", "#D55E00", "#8C5A2B", "#8A8A00")
_LINES: tuple[Literal["-", "--", ":"], ...] = ("--", *("-",) * 9, *("--",) * 9, ":")

# By the row's number in the tables. Solid lines for the first ten rows, dashed ones for the others.
STYLES = {
    number: Style(color, marker, line)
    for number, color, marker, line in zip(
        ("1.0", "2.0", *(f"3.{k}" for k in range(8)), *(f"4.{k}" for k in range(10))),
        (_BLACK, *_COLORS, *_COLORS, _BLACK), "*os^vDPX<>phos^vdPX8", _LINES, strict=True,
    )
}  # fmt: skip


def styles_of(ids: Iterable[str]) -> dict[str, Style]:
    """Return the styles of a study's rows by their numbers; up to 20 rows differ.

    A number that is not in the table takes the style that its checksum points to, or the next one that is free.

    Example:
        >>> styles_of(["3.0", "B2"])["3.0"].color
        '#0072B2'
    """
    known = list(dict.fromkeys(ids))
    found = {number: STYLES[number] for number in known if number in STYLES}
    slots = list(STYLES.values())
    for number in sorted(set(known) - set(found)):
        start = zlib.crc32(number.encode()) % len(slots)
        order = [*slots[start:], *slots[:start]]
        found[number] = next((style for style in order if style not in found.values()), order[0])
    return found
