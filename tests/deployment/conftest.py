"""The made study, exported once for all tests here: those that change it get a copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_study import make_study, plan

from internal_kd.deployment import contestants, students
from internal_kd.deployment.exported import Wish
from internal_kd.deployment.facts import ExportFacts
from internal_kd.study import Study


@dataclass(frozen=True)
class Made:
    """Where the exported study lies, and what its exports knew of themselves, by task."""

    folder: Path
    study: Study
    facts: dict[str, ExportFacts]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The made study with its best students exported."""
    folder = tmp_path_factory.mktemp("project")
    facts: dict[str, ExportFacts] = {}
    write = students.model_card

    def noting(known: ExportFacts) -> str:
        facts[known.task.task] = known
        return write(known)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(contestants, "SECONDS", 0.0)
        patch.setattr(students, "model_card", noting)
        study = make_study()
        students.export_students(study, Wish())
    return Made(folder, study, facts)


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
