"""Made-up studies on disk: a project folder with the papers, and the demo's report, made once."""

import contextlib
import shutil
from pathlib import Path
from typing import NamedTuple

import made_runs
import pytest

from internal_kd.plan.study import Study
from internal_kd.report.make import make_report
from trained_study import trained_project  # noqa: F401


class Reported(NamedTuple):
    """A study with its report, and the folder that it lies in."""

    folder: Path
    study: Study

    @property
    def page(self) -> str:
        """The report."""
        return (self.folder / self.study.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder as the current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made_runs.ROOT / "papers", tmp_path / "papers")
    return tmp_path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """The demo's study, made up, with its report; to be read only."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(made_runs.ROOT / "papers", folder / "papers")
    with contextlib.chdir(folder):
        study = made_runs.write_study(made_runs.plan_demo())
        make_report(study)
    return Reported(folder, study)


@pytest.fixture
def in_demo(demo: Reported, monkeypatch: pytest.MonkeyPatch) -> Reported:
    """The demo's study as the current directory; to be read only."""
    monkeypatch.chdir(demo.folder)
    return demo
