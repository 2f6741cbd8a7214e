"""A tiny study for every test of a folder whose conftest.py takes these fixtures over."""

from pathlib import Path

import pytest

import tiny_study
from internal_kd.plan.study import Study


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pipeline with a tiny study, as the current directory."""
    monkeypatch.chdir(tmp_path)
    return tiny_study.make_project(tmp_path)


@pytest.fixture
def study(project: Path) -> Study:
    """The tiny study, planned: 2 teachers, 6 students."""
    return tiny_study.plan_here()
