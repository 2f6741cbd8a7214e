"""What tests share: a project folder of their own."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, so that a check says of a change what it says of the change and nothing else. Others are
# looked for with `pytest --hypothesis-profile=default`.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
