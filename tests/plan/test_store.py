"""What is damaged is told from what is complete, whatever its record contains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from internal_kd.checksums import Damaged, publish
from internal_kd.errors import UserError
from internal_kd.files import staging_folder
from internal_kd.plan.runs import Run
from internal_kd.plan.store import FOUND_DAMAGED, problem_with, read_history, read_record, verified_folder
from internal_kd.plan.study import Study
from study_fixtures import project, study
from tiny_study import complete

__all__ = ["project", "study"]


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
names = st.sampled_from(["history.jsonl", "model", "", "..", "x\0y", "x" * 300]) | st.text(max_size=8)
files = st.dictionaries(names, anything | st.fixed_dictionaries({"bytes": anything, "sha256": anything}), max_size=3)


@pytest.fixture
def run(study: Study) -> Run:
    """A complete run."""
    complete(study.runs[-1])
    return study.runs[-1]


def write(run: Run, value: Any) -> None:
    run.marker.write_text(json.dumps(value))


def test_a_complete_run_has_no_problem(run: Run) -> None:
    assert problem_with(run) is None


@pytest.mark.parametrize("listed", [None, [1], 5, "all"])
def test_a_record_of_the_wrong_shape_is_a_truncated_one(run: Run, listed: Any) -> None:
    write(run, {"fingerprint": run.fingerprint, "files": listed})
    assert problem_with(run) == "run.json is truncated"


@pytest.mark.parametrize("listed", [{"history.jsonl": 5}, {"history.jsonl": [1]}])
def test_an_entry_of_the_wrong_shape_is_named(run: Run, listed: Any) -> None:
    write(run, {"fingerprint": run.fingerprint, "files": listed})
    assert "history.jsonl" in str(problem_with(run))


@pytest.mark.parametrize("text", ["[1]", "null", "5", "", "[" * 100_000, '{"fingerprint": '])
def test_what_is_not_an_object_is_truncated(run: Run, text: str) -> None:
    run.marker.write_text(text)
    assert problem_with(run) == "run.json is truncated"
    with pytest.raises(UserError, match=r"run\.json .*: delete it and run again"):
        read_record(run)


def test_a_folder_in_the_place_of_a_file_is_a_problem(run: Run) -> None:
    (run.folder / "history.jsonl").unlink()
    (run.folder / "history.jsonl").mkdir()
    assert problem_with(run) == "history.jsonl is not a file"


def test_other_content_of_the_same_size_is_found(run: Run) -> None:
    path = run.folder / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert "history.jsonl" in str(problem_with(run))


def test_what_a_reader_found_damaged_is_not_complete_until_it_is_made_again(study: Study) -> None:
    teacher = study.runs[0]
    complete(teacher)
    path = teacher.folder / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert problem_with(teacher) is None  # weights are large, and compared when they are loaded
    with pytest.raises(Damaged):
        verified_folder(teacher, "model")
    assert problem_with(teacher) == FOUND_DAMAGED
    complete(teacher)
    assert problem_with(teacher) is None


def test_a_record_that_was_edited_is_a_problem(tmp_path, study: Study) -> None:
    data = study.tasks["judge"].data
    with staging_folder(data.folder) as staged:
        publish(staged, data.folder, {"fingerprint": data.fingerprint, "rows": 3})
    assert problem_with(data) is None
    data.marker.write_text(data.marker.read_text().replace('"rows": 3', '"rows": 4'))
    assert "edited" in str(problem_with(data))


def test_weights_may_be_missing(study: Study) -> None:
    teacher = study.runs[0]
    complete(teacher)
    (teacher.folder / "model/model.safetensors").unlink()
    assert problem_with(teacher) is None


def test_weights_are_compared_before_they_are_loaded(study: Study) -> None:
    teacher = study.runs[0]
    complete(teacher)
    assert verified_folder(teacher, "model") == teacher.folder / "model"
    (teacher.folder / "model/model.safetensors").write_text("other weights of another length")
    with pytest.raises(Damaged, match=r"model\.safetensors"):
        verified_folder(teacher, "model")


@given(value=anything | st.fixed_dictionaries({"fingerprint": st.just("its own"), "files": files | anything}))
@example(value={"fingerprint": "its own", "files": {"..": {"bytes": 4096, "sha256": ""}}})
def test_no_record_whatever_it_contains_ends_in_an_error(run: Run, value: Any) -> None:
    if isinstance(value, dict) and value.get("fingerprint") == "its own":
        value = {**value, "fingerprint": run.fingerprint}
    write(run, value)
    problem = problem_with(run)
    assert problem is None or isinstance(problem, str)


@pytest.mark.parametrize("end", ['{"epoch": 3, "lo', "[3]", '{"epoch": null}', '{"loss": 1}', ""])
def test_a_history_ends_with_its_last_epoch_that_can_be_read(tmp_path: Path, end: str) -> None:
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    path.write_text(f'{{"epoch": 1}}\n{{"epoch": 2, "loss": 0.5}}\n{end}')
    assert read_history(path) == [{"epoch": 1}, {"epoch": 2, "loss": 0.5}]
