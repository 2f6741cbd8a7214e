"""The trained study, exported once for all tests here: those that change it get a copy."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from internal_kd.export import export
from internal_kd.export.facts import ExportFacts
from internal_kd.export.folders import export_path
from internal_kd.plan.study import Study
from trained_study import Trained, copy_project, plan_trained, trained, trained_copy, trained_project

__all__ = ["trained", "trained_copy", "trained_project"]


@dataclass(frozen=True)
class Exported:
    """Where the exported study lies, the lines that were printed, and what its exports knew, by task."""

    folder: Path
    study: Study
    facts: dict[str, ExportFacts]
    lines: list[str]

    def record(self, task: str) -> dict[str, Any]:
        """Return a task's export.json."""
        return json.loads(export_path(self.study, task).read_text())

    def path(self, task: str, name: str = "model") -> Path:
        """Return a part of a task's export."""
        return export_path(self.study, task).parent / name

    def run(self, task: str) -> Any:
        """Return the exported run."""
        return self.study.by_fingerprint[self.record(task)["run"]["fingerprint"]]


@pytest.fixture(scope="session")
def exported_project(trained_project: Trained, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The study with its best students exported, to be read only."""
    folder = tmp_path_factory.mktemp("exported") / "project"
    copy_project(trained_project.folder, folder)
    facts: dict[str, ExportFacts] = {}
    lines: list[str] = []
    write = export.model_card

    def noting(known: ExportFacts) -> str:
        facts[known.task.info.name] = known
        return write(known)

    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "SECONDS", 0.0)
        patch.setattr(export, "model_card", noting)
        study = plan_trained()
        export.export_students(study, say=lines.append)
    return Exported(folder, study, facts, lines)


@pytest.fixture
def exported(exported_project: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """The exported study in the current directory, to be read only."""
    monkeypatch.chdir(exported_project.folder)
    return exported_project


@pytest.fixture
def exported_copy(exported_project: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """A copy of the exported study in the current directory, to be changed."""
    folder = tmp_path / "exported"
    copy_project(exported_project.folder, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(export, "SECONDS", 0.0)
    return Exported(folder, plan_trained(), exported_project.facts, [])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timing beyond the fewest rounds."""
    monkeypatch.setattr(export, "SECONDS", 0.0)
