"""Lets these tests import their helpers from tests/, and gives each a tiny study of its own."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import tiny_study
from internal_kd.study import Study


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pipeline with a tiny study, as the current directory."""
    monkeypatch.chdir(tmp_path)
    return tiny_study.make_project(tmp_path)


@pytest.fixture
def study(project: Path) -> Study:
    """The tiny study, planned: 2 teachers, 6 students."""
    return tiny_study.plan_here()
