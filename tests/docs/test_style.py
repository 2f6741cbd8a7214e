"""The pages are in plain English: no phrase that a reader has to read twice."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import PAGES, ROOT, name_of, without_blocks

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


def texts_of(module: Path) -> Iterator[str]:
    """The texts of a module that people may read: those with several words that are no docstring."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    first = [node.body[0] for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list) and node.body]
    docstrings = {id(node.value) for node in first if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value if " " in node.value.strip() else ""


def test_messages_and_reports_are_in_plain_english() -> None:
    sources = sorted((ROOT / "src").rglob("*.py"))
    texts = {path.name: "\n".join(texts_of(path)) for path in sources}
    texts |= {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.j2"))}
    found = [
        (name, match[0], better)
        for name, text in texts.items()
        for phrase, better in PHRASES.items()
        for match in re.finditer(phrase, text)
    ]
    assert found == []
