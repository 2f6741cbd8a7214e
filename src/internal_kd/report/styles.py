"""One colour, marker and line per row, the same in every figure of every study.

Colours are Okabe and Ito's, safe for colour-blind readers; with markers and lines rows differ in grey too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Literal, NamedTuple


class Style(NamedTuple):
    """How a row is drawn."""

    color: str
    marker: str
    linestyle: Literal["-", "--", ":"]


_BLACK, _ORANGE, _SKY, _GREEN, _BLUE, _RED, _PINK, _GREY, _BROWN, _OLIVE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F", "#8C5A2B", "#8A8A00",
)  # fmt: skip

# By the row's number in the tables. Solid lines for the first ten colours, dashed ones for the second.
STYLES = {
    "1.0": Style(_BLACK, "*", "--"),
    "2.0": Style(_GREY, "o", "-"),
    "3.0": Style(_BLUE, "s", "-"),
    "3.1": Style(_SKY, "^", "-"),
    "3.2": Style(_PINK, "v", "-"),
    "3.3": Style(_ORANGE, "D", "-"),
    "3.4": Style(_GREEN, "P", "-"),
    "3.5": Style(_RED, "X", "-"),
    "3.6": Style(_BROWN, "<", "-"),
    "3.7": Style(_OLIVE, ">", "-"),
    "4.0": Style(_GREY, "p", "--"),
    "4.1": Style(_BLUE, "h", "--"),
    "4.2": Style(_SKY, "o", "--"),
    "4.3": Style(_PINK, "s", "--"),
    "4.4": Style(_ORANGE, "^", "--"),
    "4.5": Style(_GREEN, "v", "--"),
    "4.6": Style(_RED, "d", "--"),
    "4.7": Style(_BROWN, "P", "--"),
    "4.8": Style(_OLIVE, "X", "--"),
    "4.9": Style(_BLACK, "8", ":"),
}


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
