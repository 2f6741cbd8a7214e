"""Write docs/reference/ from the code: parameters, commands, objectives, learners, files.

    python docs/generate.py            write the pages
    python docs/generate.py --check    name the pages that are out of date, exit code 1 if there are any

Everything comes from pydantic descriptions, the command parser, the registries and docstrings, so the way to change a
page is to change the code. `make docs` runs this first; tests/docs/test_reference.py fails if a page is out of date.
"""

from __future__ import annotations

import argparse
import sys

from reference_pages import REFERENCE, page, stale


def main() -> int:
    """Write the pages, or with ``--check`` name those that are out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is out of date")
    check = parser.parse_args().check
    REFERENCE.mkdir(exist_ok=True)
    for name in (old := stale()):
        print(f"docs/reference/{name}.md {'is out of date: run make docs' if check else 'written'}")
        if not check:
            (REFERENCE / f"{name}.md").write_text(page(name), encoding="utf-8")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
