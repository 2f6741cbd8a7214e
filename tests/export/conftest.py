"""The trained study, exported once for all tests here: those that change it get a copy."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from exported_study import Exported

from internal_kd.export import export
from internal_kd.export.facts import ExportFacts
from trained_study import Trained, copy_project, plan_trained, trained, trained_copy, trained_project

__all__ = ["trained", "trained_copy", "trained_project"]


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
    """No timing beyond the fewest rounds and no ONNX graphs, for what is not about either."""
    monkeypatch.setattr(export, "SECONDS", 0.0)
    monkeypatch.setattr("internal_kd.export.onnx.find_spec", lambda name: None)
