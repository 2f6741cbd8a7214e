from pathlib import Path

import pytest

from internal_kd.operations.wanted import WANTED, runs_not_pulled, untracked_runs, write_wanted
from internal_kd.study import Study


def test_the_lists_name_every_run_and_every_result_and_stay_untouched_while_they_hold(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "data")
    write_wanted(study)
    lists = {path.stem: path.read_text().splitlines() for path in WANTED.iterdir()}
    assert lists["teachers"] == [str(run.folder) for run in study.teachers]
    assert lists["students"] == [str(run.folder) for run in study.students]
    assert "results/tiny/report.html" in lists["results"] and lists["results"][0].startswith("analysis ")
    before = {path: path.stat().st_mtime_ns for path in WANTED.iterdir()}
    write_wanted(study)
    assert {path: path.stat().st_mtime_ns for path in WANTED.iterdir()} == before


def test_a_study_planned_outside_of_dvc_leaves_its_lists_alone(study: Study, project: Path) -> None:
    write_wanted(study)
    assert not WANTED.exists()


def test_runs_trained_beside_dvc_are_told_only_where_dvc_is_used(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert untracked_runs(3) is None
    (project / "dvc.lock").touch()
    assert "3 runs were trained of which DVC does not know" in str(untracked_runs(3))
    assert untracked_runs(0) is None
    monkeypatch.setenv("DVC_STAGE", "students")
    assert untracked_runs(3) is None


def test_a_clone_before_its_first_pull_is_told_to_pull(project: Path) -> None:
    assert runs_not_pulled() is None
    (project / "dvc.lock").write_text("stages:\n  students:\n    outs:\n    - path: results/runs/students\n")
    assert "`dvc pull` brings" in str(runs_not_pulled())
    (project / "results/runs").mkdir(parents=True)
    assert runs_not_pulled() is None
