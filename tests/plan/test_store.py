"""What is broken is told from what is whole, whatever its record holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from internal_kd.artefacts import StudentRun
from internal_kd.errors import UserError
from internal_kd.operations.progress import look
from internal_kd.records import problem_with, read_record
from internal_kd.study import Study
from study_fixtures import project, study
from tiny_study import complete

__all__ = ["project", "study"]

MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
names = st.sampled_from(["history.jsonl", "model", "", "..", "x\0y", "x" * 300]) | st.text(max_size=8)
files = st.dictionaries(names, anything | st.fixed_dictionaries({"bytes": anything, "sha256": anything}), max_size=3)


@pytest.fixture
def run(study: Study) -> StudentRun:
    """A complete run."""
    complete(study.students[0])
    return study.students[0]


def write(run: StudentRun, value: Any) -> None:
    run.marker.write_text(json.dumps(value))


def test_a_whole_run_has_no_problem(run: StudentRun) -> None:
    assert problem_with(run) is None and problem_with(run, checksums=True) is None


@pytest.mark.parametrize("listed", [None, [1], 5, "all", {"history.jsonl": 5}, {"history.jsonl": [1]}])
def test_a_record_of_the_wrong_shape_is_one_cut_short(run: StudentRun, study: Study, listed: Any) -> None:
    write(run, {"fingerprint": run.fingerprint, "files": listed})
    assert problem_with(run) == "run.json is cut short"
    assert look(study).broken == ((run, "run.json is cut short"),)


@pytest.mark.parametrize("text", ["[1]", "null", "5", "", "[" * 100_000, '{"fingerprint": '])
def test_what_is_no_object_is_cut_short(run: StudentRun, text: str) -> None:
    run.marker.write_text(text)
    assert problem_with(run) == "run.json is cut short"
    with pytest.raises(UserError, match=r"run\.json .*: delete it and run again"):
        read_record(run)


def test_a_folder_in_the_place_of_a_file_is_a_problem(run: StudentRun) -> None:
    (run.folder / "history.jsonl").unlink()
    (run.folder / "history.jsonl").mkdir()
    assert problem_with(run) == "history.jsonl is no file"


@MANY
@given(value=anything | st.fixed_dictionaries({"fingerprint": st.just("its own"), "files": files | anything}))
@example(value={"fingerprint": "its own", "files": {"..": {"bytes": 4096, "sha256": ""}}})
def test_no_record_whatever_it_holds_ends_in_an_error(run: StudentRun, study: Study, value: Any) -> None:
    if isinstance(value, dict) and value.get("fingerprint") == "its own":
        value = {**value, "fingerprint": run.fingerprint}
    write(run, value)
    for checksums in (False, True):
        problem = problem_with(run, checksums=checksums)
        assert problem is None or isinstance(problem, str)
    state = look(study)
    assert run in [*state.done, *(broken for broken, _ in state.broken)]
