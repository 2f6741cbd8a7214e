"""What tests share: a project folder of their own, a process to look at."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same hundred examples every time, so that a check says of a change what it says of the change and nothing else.
# None has a deadline, because a busy machine is nobody's fault. Others, and many, are looked for with
# `pytest --hypothesis-profile=search`.
ANYWHERE = settings(deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("repeatable", ANYWHERE, derandomize=True)
settings.register_profile("search", ANYWHERE, max_examples=2000)
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
    """A process that does nothing, and ends with the test."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()
