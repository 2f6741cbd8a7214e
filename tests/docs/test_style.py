"""The pages are in plain English: no phrase that a reader has to read twice."""

import re
from pathlib import Path

import pytest

from docs.pages import PAGES, name_of, without_blocks

PHRASES = {
    r"\bis no (file|folder|number|model|task|run)\b": "is not a ...",
    r"\b[Ww]hoever\b": "if you ...",
    r"\b(of|for) which\b": "two sentences",
    r"\bbeside\b": "next to, compared with",
    r"\b(says|tells|speaks) (how|which|what|of)\b.{0,30}\b(file|table|page)\b": "records, lists",
    r"\bnot whole\b": "incomplete",
    r"\b(wanted|lacks?|lacking)\b": "requested, missing",
    r"\b(mend\w*|anew|once more|at hand|by itself)\b": "fix, again, available, alone",
    r"\btaught from inside\b": "internal distillation",
    r"\bnobody is shown\b": "no difference is significant",
}
# Written from the code, by the code.
BY_HAND = [page for page in PAGES if not page.read_text(encoding="utf-8").startswith("<!-- Written by")]


@pytest.mark.parametrize("page", BY_HAND, ids=name_of)
def test_a_page_is_in_plain_english(page: Path) -> None:
    prose = re.sub(r"`[^`]*`|^\|.*$", "", without_blocks(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    found = [(match[0], better) for phrase, better in PHRASES.items() for match in re.finditer(phrase, prose)]
    assert found == []
