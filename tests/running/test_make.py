"""Making one thing: found by any name, its inputs checked, its lock held, its score shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.files import read_json, write_json
from internal_kd.held import InUse, held, is_held
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study
from internal_kd.registry import resolve
from internal_kd.running import make as making
from internal_kd.running.make import (
    STEPS,
    WITHOUT_WEIGHTS,
    check_inputs,
    find,
    inputs_of,
    lock_of,
    make,
    problem_for_readers,
    score_line,
    to_make,
)
from tiny_study import complete, make_project, plan_here, planned, run_of


def test_every_artefact_is_found_by_fingerprint_its_beginning_folder_and_files(study: Study) -> None:
    for artefact in study.artefacts.values():
        fingerprint = artefact.fingerprint
        beginning = next(n for n in range(4, 13) if sum(fp.startswith(fingerprint[:n]) for fp in study.artefacts) == 1)
        names = (fingerprint, fingerprint[:beginning], artefact.folder, artefact.marker, artefact.folder.absolute())
        assert [find(study, str(name)) for name in names] == [artefact] * 5


@pytest.mark.parametrize("named", ["0123456789ab", "results/runs", "st", "stacked", "../x"])
def test_a_name_that_means_nothing_is_one_line_with_the_way_out(study: Study, named: str) -> None:
    with pytest.raises(UserError) as error:
        find(study, named)
    assert repr(named) in str(error.value) and "internal-kd runs" in str(error.value)
    assert ("has changed since" in str(error.value)) == (named == "0123456789ab")


def test_every_step_of_the_planner_has_a_function() -> None:
    study = planned("config/demo.yaml")
    assert {artefact.step for artefact in study.artefacts.values()} == STEPS.keys()
    assert all(callable(resolve(step)) for step in STEPS.values())


def test_everything_an_artefact_was_fingerprinted_with_is_among_its_inputs(study: Study) -> None:
    for artefact in study.artefacts.values():
        given = {needed.fingerprint for needed in inputs_of(artefact)}
        assert {needed.fingerprint for needed in artefact.reads().values()} <= given
    run = run_of(study, "stacked")
    assert {run.encoder.fingerprint, run.inputs.data.fingerprint} <= {needed.fingerprint for needed in inputs_of(run)}


def test_a_missing_input_is_named_with_the_command_that_makes_it(study: Study) -> None:
    run = run_of(study, "stacked")
    (answers,) = run.parts
    complete(*(needed for needed in inputs_of(run) if needed is not answers))
    with pytest.raises(UserError) as error:
        check_inputs(run, " --overlay tiny.yaml")
    assert str(answers.marker) in str(error.value)
    assert f"`internal-kd make {answers.fingerprint} --overlay tiny.yaml`" in str(error.value)
    complete(answers)
    check_inputs(run)
    (run.inputs.folder / "content").write_text("cut")
    with pytest.raises(UserError, match=rf"content.*internal-kd make {run.inputs.fingerprint}"):
        check_inputs(run)


def test_a_run_without_weights_is_complete_but_nothing_can_be_made_of_it(study: Study) -> None:
    complete(*study.artefacts.values())
    teacher, student = run_of(study, "teacher"), run_of(study, "stacked")
    (teacher.folder / "model/model.safetensors").unlink()
    assert problem_for_readers(teacher) == WITHOUT_WEIGHTS
    assert to_make(study.runs) == {}
    student.marker.unlink()
    assert list(to_make(study.runs)) == [student.fingerprint]
    student.parts[0].marker.unlink()
    needed = {student.fingerprint, student.parts[0].fingerprint, teacher.fingerprint}
    assert to_make(study.runs).keys() == needed
    with pytest.raises(UserError, match=WITHOUT_WEIGHTS):
        check_inputs(student.parts[0])


def test_what_is_complete_is_left_alone(study: Study) -> None:
    complete(*study.artefacts.values())
    assert not any(make(artefact, study) for artefact in study.artefacts.values())


def test_weights_that_were_kept_and_are_gone_are_made_again_by_name(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(*study.artefacts.values())
    teacher, student = run_of(study, "teacher"), run_of(study, "soft")
    made = []
    monkeypatch.setattr(making, "resolve", lambda path: lambda run, **settings: made.append(run))
    for run in (teacher, student):
        (run.folder / "model/model.safetensors").unlink(missing_ok=True)
        make(run, study)
    assert made == [teacher], "this student's weights were never kept"
    weights = {"model/model.safetensors": {"bytes": 1, "sha256": "0" * 64}}
    write_json(student.marker, read_json(student.marker) | {"files": weights})
    assert make(student, study) and made == [teacher, student]


def test_a_step_that_is_at_work_is_seen_and_not_done_twice(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    data = study.tasks["judge"].data
    seen = []
    monkeypatch.setattr(making, "resolve", lambda path: lambda artefact: seen.append(is_held(lock_of(artefact))))
    assert make(data, study) and seen == [True] and not is_held(lock_of(data))
    with held(lock_of(data), {"what": "another"}), pytest.raises(InUse, match="another"):
        make(data, study)


def test_a_task_is_really_made_and_what_a_killed_attempt_took_of_the_disk_is_given_back(study: Study) -> None:
    data = study.tasks["judge"].data
    killed = data.folder.with_name(f".{data.folder.name}.1.aaaaaa.tmp")
    killed.mkdir(parents=True)
    assert make(data, study) and data.marker.is_file() and not killed.exists()
    assert not make(data, study)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("all", [True, True]), ("first-seed", [True, False]), ("none", [False, False])],
)
def test_weights_are_kept_of_runs_that_teach_and_of_others_as_the_machine_says(
    project: Path, monkeypatch: pytest.MonkeyPatch, keep: str, kept: list[bool]
) -> None:
    make_project(project, machine={"keep_models": keep})
    study = plan_here()
    complete(*(artefact for artefact in study.artefacts.values() if not isinstance(artefact, Run)))
    complete(*(run for run in study.runs if run.method.name == "teacher" and run.seed == 1))
    found: dict[str, list[bool]] = {}

    def step(run: Run, *, machine: object, keep_model: bool) -> None:
        found.setdefault(run.method.name, []).append(keep_model)

    monkeypatch.setattr(making, "resolve", lambda path: step)
    for run in study.runs:
        if run.method.name in ("teacher", "soft"):
            run.marker.unlink(missing_ok=True)
            make(run, study)
    assert found == {"teacher": [True, True], "soft": kept}


def score(run: Run, **scores: float | None) -> None:
    complete(run)
    write_json(run.marker, read_json(run.marker) | {"scores": scores})


def test_a_finished_run_is_shown_beside_its_teacher(study: Study) -> None:
    student, teacher = run_of(study, "stacked"), run_of(study, "teacher")
    score(student, accuracy=0.4642, f1=0.1)
    assert score_line(student) == "judge stacked L2 s1: accuracy 46.4"
    score(teacher, accuracy=0.605)
    assert score_line(student) == "judge stacked L2 s1: accuracy 46.4, teacher 60.5"
    assert score_line(teacher) == "judge teacher all s1: accuracy 60.5"
    score(student, matthews_correlation=None)
    assert score_line(student) == "judge stacked L2 s1: matthews_correlation undefined, teacher 60.5"


def test_several_teachers_are_shown_and_an_error_is_no_percentage(project: Path) -> None:
    both = {"of": "teacher", "seeds": [1, 2], "weak": "accept"}
    make_project(project, methods={"soft": {"teacher": both}}, study={"methods": ["teacher", "soft"]})
    study = plan_here()
    student = run_of(study, "soft")
    score(student, mse=1.25)
    for number, run in enumerate(student.teachers):
        score(run, mse=number + 0.5)
    assert score_line(student) == "judge soft L2 s1: mse 1.250, teachers 0.500, 1.500"
