"""What a study still asks for is told before it starts, and nothing is invented."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_costs import CONFIG

from internal_kd.files import read_json, write_json
from internal_kd.operations import estimate
from internal_kd.operations.cli import main
from internal_kd.operations.planning import make_plan
from internal_kd.operations.progress import look
from internal_kd.params import merge, read_yaml
from internal_kd.records import WEIGHTS
from internal_kd.study import Study
from tiny_study import OVERLAY, ROOT, complete, complete_everything, plan_here, write_overlay


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def told(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["estimate", "--overlay", OVERLAY, *options]) == 0
    return capsys.readouterr().out


def finish(run, seconds: float, device: str = "cpu, 1 threads") -> None:
    complete(run, seconds=seconds)
    write_json(run.marker, read_json(run.marker) | {"device": device, "finished": "2026-01-01T00:00:00+00:00"})


def test_before_any_run_the_hours_are_unknown_and_the_work_is_told_in_shares(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(project / "encoder/config.json", CONFIG)
    write_overlay(
        project,
        study={"tasks": ["judge", "twice"]},
        tasks={"twice": {"source": "generator", "grammar": "acceptability", "train": 128, "dev": 96}},
    )
    shown = told(capsys)
    assert "teachers  4 wanted, 0 complete, 4 to train" in shown
    assert "students  12 wanted, 0 complete, 12 to train" in shown
    assert estimate.UNKNOWN_HOURS in shown and "about" not in shown
    assert "judge: 8 to train, 33 % of the work\n" in shown and "twice: 8 to train, 67 % of the work\n" in shown
    assert "lengths of examples are assumed until these are tokenised: judge, twice" in shown


def test_a_finished_run_gives_hours_and_says_on_what_they_stand(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(study.teachers[0], 7200)
    shown = told(capsys)
    assert "2 wanted, 1 complete, 1 to train" in shown
    assert "of one CPU job after another, as 1 finished run took on cpu, 1 threads" in shown
    finish(study.teachers[0], 7200, device="Some GPU")
    shown = told(capsys)
    assert "one GPU job" in shown and "measured on Some GPU, but this machine has no GPU" in shown


def test_json_says_the_same(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    finish(study.teachers[0], 7200)
    values = json.loads(told(capsys, "--json"))
    assert values["teachers"] == {"wanted": 2, "complete": 1, "to_train": 1}
    assert values["hours"] == pytest.approx(look(study).time_left() / 3600)
    assert values["device"] == "cpu, 1 threads" and values["measured_runs"] == 1
    assert values["tasks"]["judge"]["work_share"] == 1.0
    assert values["disk"]["models"] is None  # the encoder's configuration does not say how large it is


def test_disk_is_that_of_the_models_kept_and_of_the_layers_recorded(project: Path) -> None:
    write_json(project / "encoder/config.json", CONFIG)
    study = plan_here()
    found = estimate.estimate_study(look(study)).disk
    teacher, student = (136 * 32 + depth * 8544 + 32 * 33 for depth in (4, 2))
    assert found.models == 4 * (2 * teacher + 6 * student)
    # Teacher layers 2 and 4 for 64 examples of about 12 tokens: attention of 4 heads and [CLS] states, 2 bytes each.
    squares = 1.1 * 12**2 * 64
    assert found.teacher_outputs == pytest.approx(2 * (2 * 4 * squares) + 2 * 32 * 64 * 2, rel=0.001)
    assert found.initial_students == 4 * student  # all start from the same weights
    assert found.checkpoints == 2 * 3 * 4 * teacher and found.downloads == 0
    write_overlay(project, machine={"keep_models": "first-seed", "disk_budget_gb": 1e-9})
    scarce = estimate.estimate_study(look(plan_here())).disk
    assert scarce.models == 4 * (2 * teacher + 3 * student) and scarce.teacher_outputs == 2 * 32 * 64 * 2


def test_what_is_there_is_not_asked_for_again(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    complete_everything(study)
    study.students[0].marker.unlink()
    found = estimate.estimate_study(look(study))
    assert (found.to_train, found.recordings, found.disk.teacher_outputs) == (1, 0, 0)
    complete_everything(study)
    assert "nothing is left to train" in told(capsys)
    assert estimate.line(look(study)) is None


def test_a_teacher_whose_weights_are_gone_is_asked_for_where_a_student_needs_it(study: Study) -> None:
    complete_everything(study)
    student = next(run for run in study.students if run.outputs is not None)
    teacher = student.outputs.teacher
    (teacher.folder / WEIGHTS).unlink()
    assert estimate.estimate_study(look(study)).to_train == 0, "the scores need no weights"
    student.marker.unlink()
    shutil.rmtree(student.outputs.folder)
    found = estimate.estimate_study(look(study))
    assert (found.teachers.to_train, found.students.to_train, found.recordings) == (1, 1, 1)


def test_a_disk_too_small_is_told_beforehand(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(project / "encoder/config.json", CONFIG)
    usage = estimate.shutil.disk_usage(project)._replace(free=1000)
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda path: usage)
    assert "WARNING: the disk lacks" in told(capsys)
    assert "the disk has only 1.0 kB" in str(estimate.line(look(plan_here())))


def test_the_papers_study_names_its_downloads_without_a_network(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", "--params", str(ROOT / "params.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "students  180 wanted, 0 complete, 180 to train" in shown
    values = (main(["estimate", "--params", str(ROOT / "params.yaml"), "--json"]), json.loads(capsys.readouterr().out))[
        1
    ]
    assert values["disk"]["downloads"] == pytest.approx(437.9e6, rel=1e-3)
    assert "google-bert/bert-base-uncased (437.9 MB)" in shown and "nyu-mll/glue rte (size unknown)" in shown


def test_a_run_begins_with_a_line_that_says_what_it_will_take(study: Study) -> None:
    config = merge(read_yaml("params.yaml"), read_yaml(OVERLAY))
    (line,) = [line for line in make_plan(config, main_process=True).describe() if "runs to train" in line]
    assert line.strip().startswith(f"8 runs to train: {estimate.UNKNOWN_HOURS}")
    assert "no download" in line and line.endswith("`internal-kd estimate` says more")
    finish(study.teachers[0], 60)
    (line,) = [line for line in make_plan(config, main_process=True).describe() if "runs to train" in line]
    assert line.strip().startswith("7 runs to train: about ")
