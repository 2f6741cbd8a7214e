"""A tiny study for the tests that need one."""

from pathlib import Path

import pytest

import tiny_study
from internal_kd.plan.study import Study


@pytest.fixture
def study(project: Path) -> Study:
    """The tiny study, planned in a project of its own: 2 teachers, 6 students."""
    tiny_study.make_project(project)
    return tiny_study.plan_here()
