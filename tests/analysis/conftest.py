"""A small study on disk, in a folder of its own."""

import shutil

import pytest
from fake_runs import ROOT, SMALL, plan, write_study

from internal_kd.study import Study


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").mkdir()
    shutil.copy(ROOT / "paper" / "claims.yaml", tmp_path / "paper")
    return tmp_path


@pytest.fixture
def study(project) -> Study:
    return write_study(plan())


@pytest.fixture
def small(project) -> Study:
    """One task, two methods, two seeds: enough where the whole analysis runs."""
    return write_study(plan(**SMALL))
