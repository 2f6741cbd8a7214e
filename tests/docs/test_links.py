"""Links lead somewhere, and no file of the repository names one that does not exist."""

import re
from pathlib import Path

import pytest

from docs.pages import PAGES, ROOT, name_of, tracked, without_blocks

LINK = re.compile(r"\[(?:[^]]*)\]\(([^)\s]+)\)")
# Paths below these are ours; what the pipeline makes is not.
NAMED = re.compile(
    r"(?<![\w/.-])((?:docs|src|tests|config|workflow|profiles|papers|bench|\.ci|\.github)/[\w./-]*\w\.(?:md|py|ya?ml|smk|json|toml|ipynb|rst|j2))"
)
UPPER = re.compile(r"(?<![\w/.])([A-Z][A-Z_]{3,}\.md)\b")
TEXT = {".md", ".py", ".yaml", ".yml", ".smk", ".toml", ".cfg", ".j2", ".def", ".cff", ".rst", ".ipynb", ""}
# Made while something runs, or an example of what a reader might write.
ELSEWHERE = {"config/mine.yaml", "config/a.yaml"}


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"[`*]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).strip() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(without_blocks(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_no_file_names_one_that_does_not_exist() -> None:
    missing = []
    for path in tracked():
        if path.suffix not in TEXT or path.name in ("requirements.lock", "LICENSE") or "tests" in path.parts:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for name in {*NAMED.findall(text), *UPPER.findall(text)}:
            if not (ROOT / name).exists() and name not in ELSEWHERE and not (path.parent / name).exists():
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert sorted(missing) == []


def test_pages_that_a_site_shows_are_in_its_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for page in sorted((ROOT / "docs").rglob("*.md"))
            if (name := page.relative_to(ROOT / "docs").as_posix()) not in navigation] == []  # fmt: skip
