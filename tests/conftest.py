"""What tests share: a project folder of their own, a process to look at."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, so that a check says of a change what it says of the change and nothing else. Others are
# looked for with `pytest --hypothesis-profile=default`.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: those with a longer timeout, then those with anything slow in them."""
    rank: dict[Path, tuple[float, bool]] = {}
    for item in items:
        timeout, slow = item.get_closest_marker("timeout"), item.get_closest_marker("slow")
        seconds, quick = rank.get(item.path, (0.0, True))
        rank[item.path] = (min(seconds, -timeout.args[0] if timeout else 0.0), quick and not slow)
    items.sort(key=lambda item: rank[item.path])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def worker() -> Iterator[subprocess.Popen]:
    """A process that does nothing for two minutes, and ends with the test."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    yield process
    process.kill()
    process.wait()
