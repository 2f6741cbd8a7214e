"""What DVC compares, and what is remembered of studies that were started."""

from pathlib import Path

import pytest

from internal_kd.params import read_yaml
from internal_kd.plan.study import Study
from internal_kd.running.dvc import (
    LAST,
    LISTS,
    STUDIES,
    is_described,
    remember_study,
    runs_not_pulled,
    unknown_to_dvc,
    write_lists,
)


def test_the_lists_name_every_run_and_every_result_and_stay_untouched_while_they_hold(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "data")
    write_lists(study)
    lists = {path.stem: path.read_text().splitlines() for path in LISTS.iterdir()}
    assert lists["runs"] == [str(run.folder) for run in study.runs]
    assert "results/tiny/report.html" in lists["results"]
    before = {path: path.stat().st_mtime_ns for path in LISTS.iterdir()}
    write_lists(study)
    assert {path: path.stat().st_mtime_ns for path in LISTS.iterdir()} == before


def test_a_study_planned_outside_of_dvc_leaves_its_lists_alone(study: Study) -> None:
    write_lists(study)
    assert not LISTS.exists()


def test_runs_trained_beside_dvc_are_mentioned_only_if_dvc_is_used(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unknown_to_dvc(3) is None
    (project / "dvc.lock").touch()
    line = unknown_to_dvc(3)
    assert line and line.startswith("3 runs") and "dvc repro" in line
    assert unknown_to_dvc(0) is None
    monkeypatch.setenv("DVC_STAGE", "runs")
    assert unknown_to_dvc(3) is None


def test_a_clone_before_its_first_pull_is_reminded_to_pull(project: Path) -> None:
    assert runs_not_pulled() is None
    (project / "dvc.lock").write_text("stages:\n  runs:\n    outs:\n    - path: results/runs\n      hash: md5\n")
    assert "`dvc pull`" in str(runs_not_pulled())
    (project / "results/runs").mkdir(parents=True)
    assert runs_not_pulled() is None


def test_one_overlay_of_config_describes_a_study_and_anything_else_does_not(project: Path) -> None:
    for name in ("params.yaml", "config/a.yaml", "config/papers/b.yaml", "other.yaml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    assert is_described([], False)
    assert is_described(["config/a.yaml"], False) and is_described([project / "config/papers/b.yaml"], False)
    assert not is_described(["other.yaml"], False) and not is_described(["config/a.yaml"], True)
    assert not is_described(["config/a.yaml", "config/papers/b.yaml"], False)


def test_a_study_that_gc_could_not_know_is_remembered_and_a_plan_alone_takes_no_others_place(study: Study) -> None:
    first, second = Path("first.yaml"), Path("second.yaml")
    first.write_text("study: {name: first}\n")
    second.write_text("study: {name: second}\n")
    kept = STUDIES / "tiny.yaml"
    remember_study(study, first, described=True, started=False)
    assert not kept.exists() and not LAST.exists()
    remember_study(study, first, described=False, started=True)
    remember_study(study, second, described=False, started=False)
    assert read_yaml(kept) == read_yaml(LAST) == read_yaml(first)
    remember_study(study, second, described=False, started=True)
    assert read_yaml(kept) == read_yaml(LAST) == read_yaml(second)
    remember_study(study, first, described=True, started=False)
    assert kept.exists()
    remember_study(study, first, described=True, started=True)
    assert not kept.exists() and read_yaml(LAST) == read_yaml(first)
