"""A run's answers become a file that teaches as the run itself does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from internal_kd.checksums import sha256_file
from internal_kd.data.answers_file import answers_from_file
from internal_kd.data.examples import read_task
from internal_kd.distillation.recording import RecordingReader
from internal_kd.errors import UserError
from internal_kd.export.answers import export_answers
from internal_kd.plan.store import read_record
from trained_study import ROWS, Trained, make, plan_trained, run_of


@pytest.mark.parametrize("task", ["judge", "rte"])
def test_the_file_has_what_was_recorded_of_the_teacher(trained_copy: Trained, task: str) -> None:
    teacher, student = trained_copy.run(task, "teacher"), trained_copy.run(task, "soft")
    file = Path("answers.jsonl")
    assert export_answers(teacher, file) == ROWS["train"]
    found = answers_from_file(file, teacher.inputs.data, sha256_file(file))
    reader = RecordingReader(student.parts[0].folder)
    recorded = np.load(student.parts[0].folder / "logits.npy")
    assert found.idx.tolist() == sorted(reader.row_ids.tolist())
    assert np.abs(found.logits - recorded[np.argsort(reader.row_ids)]).max() < 1e-6
    assert found.report.lines() == ["48 answers (48 with logits), matched by id: 48 of 48 examples covered"]


def test_a_line_names_example_text_and_classes(trained_copy: Trained) -> None:
    export_answers(trained_copy.run("rte", "soft"), Path("answers.jsonl"), form="probabilities")
    train = read_task(trained_copy.study.tasks["rte"].data).frame("train")
    lines = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    for line, row in zip(lines, train.itertuples(), strict=True):
        assert (line["idx"], line["text_a"], line["text_b"]) == (row.idx, row.text_a, row.text_b)
        assert set(line["probabilities"]) == {"entailment", "not_entailment"}
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_a_student_of_the_file_learns_what_a_student_of_the_run_learns(trained_copy: Trained) -> None:
    export_answers(trained_copy.run("judge", "teacher"), Path("answers.jsonl"))
    methods = {
        "from_file": {"id": "5.1", "teacher": {"answers": "answers.jsonl"}, "weights": {"soft": 1}, "seeds": [1]}
    }
    study = plan_trained(study={"methods": ["from_file"], "tasks": ["judge"]}, methods=methods)
    student = run_of(study, "judge", "from_file")
    make(student)
    assert student.teachers == ()
    assert read_record(student)["scores"] == read_record(trained_copy.run("judge", "soft"))["scores"]


def test_texts_without_labels_are_answered_too(trained_copy: Trained) -> None:
    Path("more.csv").write_text("text\nthe cat sleeps\nthe dog sleep\n")
    study = plan_trained(
        study={"tasks": ["judge"], "methods": ["teacher"], "seeds": [1]}, tasks={"judge": {"unlabelled": "more.csv"}}
    )
    run = run_of(study, "judge", "teacher")
    make(run)
    assert export_answers(run, Path("answers.jsonl")) == ROWS["train"] + 2
    assert json.loads(Path("answers.jsonl").read_text().splitlines()[-1])["text"] == "the dog sleep"


def test_what_cannot_be_written_is_refused_in_a_line(trained_copy: Trained) -> None:
    run = trained_copy.run("judge", "soft")
    with pytest.raises(UserError, match=r"answers\.csv: .*\.jsonl"):
        export_answers(run, Path("answers.csv"))
    (run.folder / "model/model.safetensors").unlink()
    with pytest.raises(UserError, match=f"model.safetensors is missing; `internal-kd make {run.fingerprint}`"):
        export_answers(run, Path("answers.jsonl"))
    assert not Path("answers.jsonl").exists()
