"""What tests share, and how they stay fast: eight minutes on two cores is what all of them may take together.

A process that loads torch takes five seconds of a core before it does anything. So a test asks for the cheapest study
that can break its promise:

    planned             tiny_study.make_project and plan_here, in milliseconds
    finished, untrained tiny_study.complete, completed.complete_everything; with predictions report/made_runs.py
    trained             trained_study.trained to read, trained_copy to change: trained once for all workers
    asked               forked.forked("snakemake", "--dry-run", ...) and "dvc", with what they load loaded already
    really at work      one start that several promises share (integration, workflow/test_whole_study.py)

A test in a process of its own says why. Nothing waits for seconds: tests wait for a line, a file, a lock or the end of
a process (tiny_study.wait_until), and a test's timeout is the only limit. A property runs over a registry, so that a
new entry is tested by being entered. Files marked slow run first, those with a timeout of their own before them.
"""

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
