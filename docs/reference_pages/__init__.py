"""The pages of docs/reference/, by name."""

from __future__ import annotations

from collections.abc import Callable

from reference_pages.commands import commands
from reference_pages.files import files
from reference_pages.learners import learners
from reference_pages.markdown import ROOT
from reference_pages.objectives import objectives
from reference_pages.parameters import parameters

REFERENCE = ROOT / "docs/reference"
NOTE = "<!-- Written by docs/generate.py from the code: change the code, then run `make docs`. -->"

PAGES: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "commands": commands,
    "objectives": objectives,
    "learners": learners,
    "files": files,
}


def page(name: str) -> str:
    """Return a page of docs/reference/ as it should be."""
    return f"{NOTE}\n\n{PAGES[name]().rstrip()}\n"


def stale() -> list[str]:
    """Return the pages whose file differs from what the code gives."""
    paths = {name: REFERENCE / f"{name}.md" for name in PAGES}
    return [n for n, path in paths.items() if not path.is_file() or path.read_text(encoding="utf-8") != page(n)]
