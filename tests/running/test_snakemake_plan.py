"""What the Snakefile is told: what is missing, what a job waits for, which rule makes a run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from completed import complete_everything, complete_results
from internal_kd.errors import UserError
from internal_kd.params import read_yaml
from internal_kd.plan.artefacts import Artefact
from internal_kd.plan.study import Study
from internal_kd.running.parameter_files import snapshot
from internal_kd.running.results import recorded_key
from internal_kd.running.snakemake_plan import RUN_RULES, STALE, WILDCARDS, Plan, make_plan
from tiny_study import OVERLAY, complete, make_project, run_of, write_overlay


def plan(**given: Any) -> Plan:
    return make_plan([Path(OVERLAY)], given, main_process=True)


def job(artefact: Artefact) -> SimpleNamespace:
    """What Snakemake hands to an input function."""
    return SimpleNamespace(fp=artefact.fingerprint)


def test_planning_needs_neither_torch_nor_pandas() -> None:
    heavy = {"torch", "pandas", "transformers", "matplotlib"}
    code = f"import sys, internal_kd.running.snakemake_plan; print(*{heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_fresh_project_needs_every_run_and_everything_below(study: Study) -> None:
    fresh = plan()
    assert fresh.missing_runs == [str(run.marker) for run in study.runs]
    assert fresh.missing_teachers == [str(run_of(study, "teacher").marker)], "the second seed teaches nobody"
    student = run_of(study, "stacked")
    # Token ids, data and encoder come along with these two.
    assert student.first
    assert sorted(fresh.inputs(job(student))) == sorted(map(str, (student.first.marker, student.parts[0].marker)))
    data = study.tasks["judge"].data
    assert set(fresh.missing_data) == {str(data.marker), str(student.encoder.marker)}


def test_a_complete_study_needs_nothing_and_no_scratch(study: Study) -> None:
    complete(*study.runs)
    complete_results(study)
    done = plan()
    assert done.missing_runs == []
    assert done.results_are_current and done.renewed("evaluate") == [] and done.stale_results == []
    assert all(done.inputs(job(run)) == [] for run in study.runs)


def test_a_missing_run_waits_only_for_what_is_missing_below_it(study: Study) -> None:
    complete_everything(study)
    run = run_of(study, "stacked")
    run.marker.unlink()
    missing = plan()
    assert missing.missing_runs == [str(run.marker)] and missing.inputs(job(run)) == []
    assert not missing.results_are_current
    assert missing.renewed("report") == ["results/tiny/report.html"]


def test_a_truncated_run_is_named_and_made_again(study: Study) -> None:
    complete_everything(study)
    run, other = study.runs[-1], study.runs[-2]
    (run.folder / "predictions.parquet").write_text("cut")
    broken = plan()
    assert broken.missing_runs == [str(run.marker)]
    assert broken.inputs(job(run)) == [str(STALE)] and STALE.is_file()
    assert any(str(run.folder) in line and "predictions.parquet" in line for line in broken.describe())
    assert broken.inputs(job(other)) == []


def test_scratch_that_is_broken_is_made_again_if_somebody_needs_it(study: Study) -> None:
    complete_everything(study)
    run = run_of(study, "soft")
    answers = run.parts[0]
    (answers.folder / "content").write_text("cut")
    assert plan().missing_runs == []
    run.marker.unlink()
    broken = plan()
    assert broken.inputs(job(run)) == [str(answers.marker)] and broken.inputs(job(answers)) == [str(STALE)]
    assert any(str(answers.folder) in line for line in broken.describe())


def test_a_record_of_another_run_is_made_again(study: Study) -> None:
    complete_everything(study)
    first, second = study.runs[-2:]
    first.marker.write_text(second.marker.read_text())
    assert plan().missing_runs == [str(first.marker)]


def test_a_teacher_without_weights_is_trained_again_only_if_they_are_needed(study: Study) -> None:
    complete_everything(study)
    student, teacher = run_of(study, "stacked"), run_of(study, "teacher")
    (teacher.folder / "model/model.safetensors").unlink()
    assert plan().missing_runs == []
    student.marker.unlink()
    student.parts[0].marker.unlink()
    needed = plan()
    assert set(needed.missing_runs) == {str(student.marker), str(teacher.marker)}
    assert needed.inputs(job(teacher)) == [str(STALE)]
    assert any("its weights" in line and "dvc pull" in line for line in needed.describe())


def test_results_are_renewed_when_the_study_changes_and_not_when_the_machine_does(study: Study) -> None:
    complete_everything(study)
    assert plan().results_are_current
    assert plan(machine={"disk_budget_gb": 1}).results_are_current
    fewer = plan(study={"seeds": [1]})
    assert fewer.missing_runs == [] and not fewer.results_are_current
    assert not plan(analysis={"alpha": 0.01}).results_are_current
    assert not plan(methods={"soft": {"title": "Other words"}}).results_are_current


def test_results_are_renewed_when_one_of_their_files_is_missing_or_a_run_is_trained_again(study: Study) -> None:
    complete_everything(study)
    (study.folder / "report.html").unlink()
    assert not plan().results_are_current
    complete_results(study)
    complete(study.runs[-1], seconds=61)
    assert plan().missing_runs == [] and not plan().results_are_current


def test_mlflow_is_shown_what_was_made_here_and_nothing_that_came_from_elsewhere(study: Study) -> None:
    shown = plan().published
    assert plan().publishing(announced=False) == [shown], "the results are about to be made"
    complete_everything(study)
    assert plan().publishing(announced=False) == [], "as in a clone"
    assert plan().publishing(announced=True) == [shown], "an earlier start could not show them"
    Path(shown).parent.mkdir(parents=True)
    Path(shown).write_text("other results\n")
    assert plan().publishing(announced=False) == [shown]
    Path(shown).write_text(f"{recorded_key(study)}\n")
    assert plan().publishing(announced=False) == []


def test_a_report_that_was_made_is_named_at_the_end_and_an_older_one_is_not(study: Study) -> None:
    fresh = plan()
    assert not fresh.results_are_current and fresh.outcome() is None
    complete_everything(study)
    assert fresh.outcome() == "report: results/tiny/report.html"
    assert plan().outcome() is None


def test_the_rule_of_a_run_follows_from_its_method(study: Study) -> None:
    rules = plan()
    made_by = {rule: rules.methods_of(rule) for rule in RUN_RULES}
    assert made_by == {"distill_internals": "stacked", "distill_labels": "finetuned|soft", "train_teacher": "teacher"}


def test_every_run_is_made_by_exactly_one_rule_whatever_its_method_is_called(project: Path) -> None:
    odd = {"a.b": {"id": "9.1", "weights": {"soft": 1}}, "aXb": {"id": "9.2", "weights": {"soft": 1, "cls_cosine": 1}}}
    make_project(
        project, study={"methods": ["teacher", "a.b", "aXb"], "vary": {"learner.layers": [2, "all"]}}, methods=odd
    )
    rules = plan()
    patterns = {rule: re.compile(rules.methods_of(rule)) for rule in RUN_RULES}
    for run in rules.study.runs:
        matching = [rule for rule, pattern in patterns.items() if pattern.fullmatch(run.method.name)]
        assert len(matching) == 1 and (matching == [run.rule] or run.method.name != "teacher")


def test_a_study_without_a_kind_of_run_has_a_rule_that_matches_nothing(study: Study) -> None:
    write_overlay(Path(), study={"methods": ["teacher"]})
    pattern = plan().methods_of("distill_internals")
    assert not any(re.match(pattern, name) for name in ("", "teacher", "stacked"))


def test_every_path_of_a_study_matches_the_wildcards_of_the_rules(study: Study) -> None:
    pattern = "results/runs/{task}/{method}/{variant}/seed{seed}-{fp}/run.json"
    for name, regex in WILDCARDS.items():
        pattern = pattern.replace(f"{{{name}}}", f"(?P<{name}>{regex})")
    for run in study.runs:
        found = re.fullmatch(pattern, str(run.marker))
        assert found and (found["fp"], found["method"]) == (run.fingerprint, run.method.name)


def test_who_teaches_goes_first(study: Study) -> None:
    priority = plan().priority
    assert priority(job(run_of(study, "teacher"))) > priority(job(run_of(study, "teacher", 2)))
    assert priority(job(run_of(study, "teacher"))) > priority(job(run_of(study, "soft")))


def test_an_overlay_counts_in_a_run_as_it_does_at_the_command_line(study: Study) -> None:
    # Another encoder's entry replaces the one of params.yaml; Snakemake alone would mix the two.
    assert plan().study.params.encoder == study.params.encoder
    assert plan().study.params.encoder.vocab_sha256 is None


def test_values_on_the_command_line_are_laid_over_all_and_null_is_not_a_word(study: Study) -> None:
    assert plan(study={"seeds": [1, 3]}).study.params.study.seeds == (1, 3)
    assert plan(data={"root": "null"}).study.params.data.root is None
    with pytest.raises(UserError, match=r"tiny.yaml \+ --config: .*'sede'"):
        plan(study={"sede": 1})


def test_the_snapshot_is_named_by_its_content_and_means_the_same_study(study: Study) -> None:
    first = snapshot({"b": 1, "a": [2]})
    assert first == snapshot({"b": 1, "a": [2]}) != snapshot({"b": 1, "a": [3]})
    assert read_yaml(first) == {"b": 1, "a": [2]}
    again = make_plan([plan(study={"seeds": [1]}).snapshot], {}, main_process=True)
    assert again.study.by_fingerprint.keys() == plan(study={"seeds": [1]}).study.by_fingerprint.keys()


def test_a_node_of_a_cluster_writes_nothing_shared(study: Study) -> None:
    complete_everything(study)
    (study.runs[-1].folder / "predictions.parquet").write_text("cut")
    make_plan([Path(OVERLAY)], {}, main_process=False)
    assert not STALE.exists()


def test_an_unknown_fingerprint_is_named(study: Study) -> None:
    with pytest.raises(UserError, match="000000000000"):
        plan().inputs(SimpleNamespace(fp="000000000000"))


def test_memory_and_time_grow_with_every_attempt(study: Study) -> None:
    asked = plan(machine={"student": {"gpu": 1, "mem_mb": 1000, "runtime": 10}}).resources("student")
    assert asked["gpu"] == 1
    assert [asked["mem_mb"](None, attempt=n) for n in (1, 2)] == [1000, 2000]
    assert [asked["runtime"](None, attempt=n) for n in (1, 2)] == [10, 20]


def test_a_study_that_ends_with_gaps_says_how_to_get_the_results_of_the_others(study: Study) -> None:
    assert plan().way_out() is None
    complete(*study.runs[:3])
    line = plan().way_out()
    assert line and "5 of 8" in line and f"internal-kd report --params {plan().snapshot}" in line
    complete(*study.runs)
    assert plan().way_out() is None
