"""docs/reference/ is what the code gives; parameter files have comments that point to pages that exist."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def reference_pages():
    sys.path.insert(0, str(ROOT / "docs"))
    import reference_pages

    yield reference_pages
    sys.path.remove(str(ROOT / "docs"))


def test_the_reference_is_current() -> None:
    # In a process of its own: plugins that other tests entered are no part of the reference.
    command = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_key_is_described_twice() -> None:
    from reference_pages.parameters import unused_descriptions

    assert unused_descriptions() == set()


def test_every_part_of_the_package_is_listed(reference_pages) -> None:
    listed = reference_pages.page("files").partition("## The package")[2]
    parts = {
        path.name
        for path in (ROOT / "src/internal_kd").iterdir()
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.name != "__init__.py")
    }
    assert {part for part in parts if f"`{part}/`" not in listed and f"`{part}`" not in listed} == set()
