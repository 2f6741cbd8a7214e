"""A run's answers as a file teach another study as the run itself does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internal_kd.data.answers_file import answers_from_file
from internal_kd.distillation.recording import RecordingReader
from internal_kd.errors import UserError
from internal_kd.files import sha256_file
from internal_kd.running.answers import write_answers_of
from trained_study import Trained, trained, trained_copy, trained_project

__all__ = ["trained", "trained_copy", "trained_project"]


def test_a_run_is_written_as_a_file_that_says_what_was_recorded_of_it(trained_copy: Trained) -> None:
    study, run = trained_copy.study, trained_copy.run("judge", "teacher")
    file = Path("answers.jsonl")
    assert write_answers_of(run, study, file) == len(file.read_text().splitlines()) == 48
    assert json.loads(file.read_text().splitlines()[0]).keys() == {"idx", "logits"}
    found = answers_from_file(file, run.inputs.data, sha256_file(file))
    recorded = trained_copy.run("judge", "soft").parts[0]
    reader = RecordingReader(recorded.folder)
    assert sorted(found.idx.tolist()) == reader.ids.tolist()


@pytest.mark.parametrize("name", ["answers.csv", "answers"])
def test_another_ending_is_refused(trained: Trained, name: str) -> None:
    with pytest.raises(UserError, match=name):
        write_answers_of(trained.run("judge", "teacher"), trained.study, Path(name))


def test_what_is_not_a_run_has_no_answers(trained: Trained) -> None:
    with pytest.raises(UserError, match="not a run"):
        write_answers_of(trained.study.tasks["judge"], trained.study, Path("a.jsonl"))


def test_a_run_without_weights_cannot_answer(trained_copy: Trained) -> None:
    run = trained_copy.run("judge", "soft")
    (run.folder / "model/model.safetensors").unlink()
    with pytest.raises(UserError, match="keep_models"):
        write_answers_of(run, trained_copy.study, Path("a.jsonl"))
    assert not Path("a.jsonl").exists()
