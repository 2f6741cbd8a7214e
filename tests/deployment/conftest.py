"""The made study, exported once for all tests here: those that change it get a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_study import Made, export_made_study, plan

from internal_kd.deployment import contestants
from internal_kd.study import Study


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The made study with its best students exported."""
    return export_made_study(tmp_path_factory.mktemp("project"))


@pytest.fixture
def study(made: Made, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The exported study in the current directory, to be looked at."""
    monkeypatch.chdir(made.folder)
    return made.study


@pytest.fixture
def copy(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A copy of it in the current directory, to be changed."""
    shutil.copytree(made.folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr(contestants, "SECONDS", 0.0)
    return plan()
