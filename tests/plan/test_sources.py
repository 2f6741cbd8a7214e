"""What local sources held is remembered beside the copies, so that a clone needs the copies alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from internal_kd.errors import UserError
from internal_kd.params import merge
from internal_kd.plan.sources import ENCODERS, TASKS, remember
from internal_kd.plan.study import Study
from internal_kd.steps.fetch import fetch_encoder, fetch_task
from tiny_study import CONFIG, VALUES, complete, planned

TSV = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n"
OWN = {"source": "files", "train": "own/a.csv", "dev": "own/b.csv", "text": ["text"]}


@pytest.fixture(autouse=True)
def local_sources(project: Path) -> Path:
    """A folder of GLUE, two files of a user's own and an encoder, all local; RTE has no test file."""
    for folder, files in {
        "glue/RTE": {"train.tsv": TSV, "dev.tsv": TSV},
        "own": {"a.csv": "text,label\nfine,1\n", "b.csv": "text,label\nbad,0\n"},
        "encoder": {"config.json": json.dumps(CONFIG), "model.safetensors": "weights"},
    }.items():
        (project / folder).mkdir(parents=True)
        for name, text in files.items():
            (project / folder / name).write_text(text)
    return project


def plan(**changes: Any) -> Study:
    study = {"study": {"tasks": ["rte", "own"]}, "tasks": {"own": OWN}, "data": {"root": "glue"}}
    return planned(**merge(merge(VALUES, study), changes))


def fingerprints(study: Study) -> list[str]:
    return [run.fingerprint for run in study.runs]


def fetched(study: Study) -> None:
    """Make the copies as far as planning can tell, and remember what they are copies of."""
    for data in (next(iter(study.tasks.values())).encoder, *(tokens.data for tokens in study.tasks.values())):
        complete(data)
        remember(data)


def test_a_clone_with_the_copies_alone_means_the_same_runs(local_sources: Path) -> None:
    before = plan()
    fetched(before)
    for folder in ("glue", "own", "encoder"):
        shutil.rmtree(local_sources / folder)
    assert fingerprints(plan()) == fingerprints(before)


def test_an_encoder_carried_by_a_package_that_is_not_installed_is_remembered_too(local_sources: Path) -> None:
    package = {"source": "package", "package": "no_such_package", "folder": "model"}
    with pytest.raises(UserError, match="'no_such_package' is not installed"):
        plan(encoder=package)
    content = next(iter(plan().tasks.values())).encoder.content
    ENCODERS.parent.mkdir(parents=True)
    ENCODERS.write_text(json.dumps({"package no_such_package model": content}))
    assert fingerprints(plan(encoder=package)) == fingerprints(plan())


def test_the_source_itself_is_believed_rather_than_the_memory(local_sources: Path) -> None:
    before = plan()
    fetched(before)
    (local_sources / "own/a.csv").write_text("text,label\nbetter,1\n")
    changed = plan()
    assert fingerprints(changed) != fingerprints(before)
    # Changed back after another fetch: the memory follows, though nothing is fetched.
    fetched(changed)
    (local_sources / "own/a.csv").write_text("text,label\nfine,1\n")
    fetched(plan())
    shutil.rmtree(local_sources / "own")
    assert fingerprints(plan()) == fingerprints(before)


@pytest.mark.parametrize(
    "changes", [{"data": {"root": "other"}}, {"tasks": {"own": {"dev": "c.csv"}}}, {"encoder": {"path": "other"}}]
)  # fmt: skip
def test_another_name_is_another_source(local_sources: Path, changes: dict[str, Any]) -> None:
    fetched(plan())
    for folder in ("glue", "own", "encoder"):
        shutil.rmtree(local_sources / folder)
    with pytest.raises(UserError):
        plan(**changes)


def test_half_a_source_is_an_error_and_no_reason_to_remember(local_sources: Path) -> None:
    fetched(plan())
    (local_sources / "own/b.csv").unlink()
    with pytest.raises(UserError, match=r"own/b\.csv does not exist"):
        plan()


def test_nothing_is_remembered_before_there_is_a_copy() -> None:
    encoder = next(iter(plan().tasks.values())).encoder
    remember(encoder)
    assert not ENCODERS.exists()


def test_a_truncated_memory_counts_as_none(local_sources: Path) -> None:
    fetched(plan())
    TASKS.write_text("{")
    shutil.rmtree(local_sources / "own")
    with pytest.raises(UserError, match=r"own/a\.csv does not exist"):
        plan()


def test_without_source_and_copy_the_line_says_where_the_copy_may_be(local_sources: Path) -> None:
    fetched(plan())
    for folder in ("own", "encoder"):
        shutil.rmtree(local_sources / folder)
    study = plan()
    with pytest.raises(UserError, match=r"tasks\.own: own/a\.csv is not here.*`dvc pull data`"):
        fetch_task(study.tasks["own"].data)
    with pytest.raises(UserError, match=r"encoder: encoder/config\.json is not here.*`dvc pull data`"):
        fetch_encoder(study.tasks["own"].encoder)
