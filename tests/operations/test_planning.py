import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from internal_kd.artefacts import Artefact
from internal_kd.errors import UserError
from internal_kd.operations.planning import STALE, Plan, make_plan, snapshot
from internal_kd.params import merge, read_yaml
from internal_kd.study import Study
from tiny_study import OVERLAY, ROOT, complete, complete_everything, complete_results


def plan(**changes: object) -> Plan:
    config = merge(merge(read_yaml("params.yaml"), read_yaml(OVERLAY)), changes)
    return make_plan(config, main_process=True)


def job(artefact: Artefact) -> SimpleNamespace:
    """What Snakemake hands to an input function."""
    return SimpleNamespace(fp=artefact.fingerprint)


def test_planning_needs_no_torch_and_no_pandas() -> None:
    heavy = {"torch", "pandas", "numpy", "transformers"}
    code = f"import sys, internal_kd.operations.planning; print(*{heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_fresh_project_wants_every_run_and_everything_below(study: Study) -> None:
    fresh = plan()
    assert fresh.missing_runs == [str(run.marker) for run in study.runs]
    student = study.students[-1]
    assert student.outputs
    # Tokens, data and encoder come along with these two.
    assert fresh.missing_inputs(job(student)) == [str(student.initial.marker), str(student.outputs.marker)]
    assert fresh.stale(job(student)) == []


def test_a_complete_study_wants_nothing_and_needs_no_scratch(study: Study) -> None:
    complete(*study.runs)
    complete_results(study)
    done = plan()
    assert done.missing_runs == []
    assert done.results_are_current and done.renewed("score-runs") == [] and done.stale_results == []
    assert all(done.missing_inputs(job(run)) == [] for run in study.runs)


def test_a_missing_run_asks_only_for_what_it_lacks(study: Study) -> None:
    complete_everything(study)
    run = study.students[0]
    run.marker.unlink()
    missing = plan()
    assert missing.missing_runs == [str(run.marker)]
    assert missing.missing_inputs(job(run)) == []
    assert not missing.results_are_current
    assert missing.renewed("render-report") == ["results/tiny/report.html"]


def test_a_run_cut_short_is_named_and_made_again(study: Study) -> None:
    complete_everything(study)
    run = study.students[0]
    (run.folder / "predictions.parquet").write_text("cut")
    broken = plan()
    assert broken.missing_runs == [str(run.marker)]
    assert broken.stale(job(run)) == [str(STALE)] and STALE.is_file()
    assert any(f"{run.folder}: predictions.parquet has 3 bytes" in line for line in broken.describe())
    assert broken.stale(job(study.students[1])) == []


def test_a_record_of_another_run_is_made_again(study: Study) -> None:
    complete_everything(study)
    first, second = study.students[:2]
    first.marker.write_text(second.marker.read_text())
    assert plan().missing_runs == [str(first.marker)]


def test_a_teacher_without_weights_is_trained_again_only_where_they_are_needed(study: Study) -> None:
    complete_everything(study)
    student = study.students[-1]
    assert student.outputs
    teacher = student.outputs.teacher
    (teacher.folder / "model/model.safetensors").unlink()
    assert plan().missing_runs == []
    student.marker.unlink()
    student.outputs.marker.unlink()
    needed = plan()
    assert set(needed.missing_runs) == {str(student.marker), str(teacher.marker)}
    assert any("trained again for its weights" in line and "dvc pull" in line for line in needed.describe())


def test_results_are_renewed_when_the_wanted_set_changes_and_not_otherwise(study: Study) -> None:
    complete_everything(study)
    assert plan().results_are_current
    assert plan(machine={"disk_budget_gb": 1}).results_are_current
    fewer = plan(study={"seeds": [1]})
    assert fewer.missing_runs == [] and not fewer.results_are_current


def test_the_snapshot_is_named_by_its_content(study: Study) -> None:
    first = snapshot({"b": 1, "a": [2]})
    assert first == snapshot({"b": 1, "a": [2]}) != snapshot({"b": 1, "a": [3]})
    assert read_yaml(first) == {"b": 1, "a": [2]}
    assert plan().snapshot == plan().snapshot


def test_a_node_of_a_cluster_touches_nothing_shared(study: Study) -> None:
    complete_everything(study)
    (study.students[0].folder / "predictions.parquet").write_text("cut")
    config = merge(read_yaml("params.yaml"), read_yaml(OVERLAY))
    make_plan(config, main_process=False)
    assert not STALE.exists()


def test_an_unknown_fingerprint_is_named(study: Study) -> None:
    with pytest.raises(UserError, match="wants nothing with the fingerprint 000000000000"):
        plan().missing_inputs(SimpleNamespace(fp="000000000000"))


def test_memory_and_time_grow_with_every_attempt(study: Study) -> None:
    asked = plan(machine={"student": {"gpu": 1, "mem_mb": 1000, "runtime": 10}}).resources("student")
    assert asked["gpu"] == 1
    assert [asked["mem_mb"](None, attempt=n) for n in (1, 2)] == [1000, 2000]
    assert [asked["runtime"](None, attempt=n) for n in (1, 2)] == [10, 20]


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("slurm*")), ids=lambda path: path.name)
def test_a_clusters_jobs_have_further_attempts_that_ask_for_more(profile: Path) -> None:
    assert read_yaml(next(profile.glob("*.yaml")))["retries"] >= 1
