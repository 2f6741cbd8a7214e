"""Fetching what needs no network: generated tasks, the user's own files, unlabelled texts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_plans import planned_data
from internal_kd.checksums import Damaged, sha256_file
from internal_kd.data.answers_file import answers_from_file
from internal_kd.data.examples import read_task
from internal_kd.errors import UserError
from internal_kd.plan.store import FOUND_DAMAGED, is_complete, problem_with
from internal_kd.steps.fetch import fetch_task

ROWS = "text,label\nfine,a\nbad,b\nso so,c\n"
OWN = {"source": "files", "train": "own.csv", "dev": "dev.csv", "text": ["text"]}


@pytest.fixture
def own(project: Path) -> Path:
    """Files of the user's own."""
    (project / "own.csv").write_text(ROWS)
    (project / "dev.csv").write_text("text,label\nnever seen,a\n")
    return project


@pytest.mark.parametrize(
    ("grammar", "labels", "texts"),
    [
        ("acceptability", ("unacceptable", "acceptable"), 1),
        ("entailment", ("entailment", "not_entailment"), 2),
    ],
)
def test_a_generated_task_has_everything_a_task_has(
    project: Path, grammar: str, labels: tuple[str, ...], texts: int
) -> None:
    data = planned_data({"source": "generator", "grammar": grammar, "train": 60, "dev": 20, "seed": 3})
    fetch_task(data)
    task = read_task(data)
    assert problem_with(data) is None
    assert task.info.name == "mine" and task.info.labels == labels and task.info.texts == texts
    assert task.info.rows == {"train": 60, "dev": 20}
    frame = task.frame("dev")
    assert list(frame.columns) == ["idx", *["text_a", "text_b"][:texts], "label", "phenomenon"]
    assert task.manifest["splits"]["dev"]["label_shares"] == {labels[0]: 0.5, labels[1]: 0.5}


def test_a_split_that_is_not_there_is_named(project: Path) -> None:
    data = planned_data({"source": "generator", "grammar": "entailment", "train": 4, "dev": 4})
    fetch_task(data)
    with pytest.raises(UserError, match="task mine has no split 'test'; it has train, dev"):
        read_task(data).frame("test")


def test_a_task_never_fetched_is_one_line(project: Path) -> None:
    with pytest.raises(UserError, match=r"manifest.json does not exist"):
        read_task(planned_data({"source": "generator", "grammar": "entailment"}))


def test_metrics_and_licence_of_own_files_are_what_the_parameters_state_now(own: Path) -> None:
    data = planned_data(OWN)
    fetch_task(data)
    assert not {"metrics", "licence"} & set(json.loads(data.marker.read_text())["task"])
    later = planned_data(OWN | {"metrics": ["macro_f1", "accuracy"], "licence": "CC0-1.0"})
    assert later.fingerprint == data.fingerprint and is_complete(later)
    infos = [read_task(each).info for each in (data, later)]
    assert [(info.metrics, info.licence) for info in infos] == [
        (("accuracy",), "not stated"),
        (("macro_f1", "accuracy"), "CC0-1.0"),
    ]
    with pytest.raises(UserError, match=r"f1 needs two classes, not 3"):
        read_task(planned_data(OWN | {"metrics": ["f1"]}))
    assert planned_data(OWN | {"label": "text", "text": ["label"]}).fingerprint != data.fingerprint


def test_what_is_suspicious_is_recorded(own: Path) -> None:
    data = planned_data(OWN | {"dev": "own.csv"})
    fetch_task(data)
    (warning,) = read_task(data).warnings
    assert "3 of 3 dev examples also in train" in warning


UNLABELLED = "label,text\n?,one more\n?,and another\n"


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_unlabelled_texts_become_a_split_with_ids_after_train(own: Path, kind: str) -> None:
    (own / "own.csv").write_text("text,label\nfine,1\nbad,0\nso so,2\n")
    (own / "dev.csv").write_text("text,label\nnever seen,1\n")
    (own / "more.csv").write_text(UNLABELLED)
    data = planned_data(OWN | {"unlabelled": "more.csv", "kind": kind})
    fetch_task(data)
    task = read_task(data)
    assert task.info.rows == {"train": 3, "dev": 1, "unlabelled": 2}
    found = task.table("unlabelled").to_pydict()
    missing = -1 if kind == "classes" else None
    assert found == {"idx": [3, 4], "text_a": ["one more", "and another"], "label": [missing, missing]}
    assert data.fingerprint != planned_data(OWN | {"kind": kind}).fingerprint


@pytest.mark.parametrize(("grammar", "header"), [("acceptability", "text"), ("entailment", "text_a,text_b")])
def test_a_generated_task_may_have_unlabelled_texts(project: Path, grammar: str, header: str) -> None:
    (project / "more.csv").write_text(f"{header}\n{header}\n")
    entry = {"source": "generator", "grammar": grammar, "train": 8, "dev": 4, "unlabelled": "more.csv"}
    data = planned_data(entry)
    fetch_task(data)
    assert read_task(data).table("unlabelled")["idx"].to_pylist() == [8]


@pytest.mark.parametrize("grammar", ["acceptability", "entailment"])
def test_a_generated_task_makes_unlabelled_texts_that_move_nothing_else(project: Path, grammar: str) -> None:
    entry = {"source": "generator", "grammar": grammar, "train": 40, "dev": 20}
    plain, more = planned_data(entry), planned_data(entry | {"unlabelled": 30})
    fetch_task(plain)
    fetch_task(more)
    task = read_task(more)
    for split in ("train", "dev"):
        assert task.table(split).equals(read_task(plain).table(split))
    found = task.table("unlabelled")
    assert found["idx"].to_pylist() == list(range(40, 70)) and set(found["label"].to_pylist()) == {-1}
    columns = ["text_a", "text_b"][: task.info.texts]
    texts = [tuple(row.values()) for split in task.info.rows for row in task.table(split).select(columns).to_pylist()]
    assert len(texts) == len(set(texts)) == 90


def test_a_number_of_unlabelled_texts_is_for_generated_tasks(own: Path) -> None:
    with pytest.raises(UserError, match=r"unlabelled: 30"):
        planned_data(OWN | {"unlabelled": 30})


def test_unlabelled_texts_without_the_columns_are_refused(own: Path) -> None:
    (own / "more.csv").write_text("sentence\none\n")
    with pytest.raises(UserError, match=r"more\.csv: no column 'text'"):
        fetch_task(planned_data(OWN | {"unlabelled": "more.csv"}))


def test_labels_swapped_under_the_same_size_and_time_are_another_task(own: Path) -> None:
    path = own / "own.csv"
    before = planned_data(OWN)
    fetch_task(before)
    found = path.stat()
    path.write_text(ROWS.replace("fine,a", "fine,b").replace("bad,b", "bad,a"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size
    after = planned_data(OWN)
    assert after.fingerprint != before.fingerprint
    with pytest.raises(UserError, match=r"own\.csv changed since the study was planned"):
        fetch_task(before)


def test_a_flipped_bit_in_fetched_examples_is_found_before_they_are_read(own: Path) -> None:
    data = planned_data(OWN)
    fetch_task(data)
    path = data.folder / "train.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    fetched = read_task(data)
    with pytest.raises(Damaged, match=r"train\.parquet"):
        fetched.frame("train")
    assert problem_with(data) == FOUND_DAMAGED
    assert fetched.frame("dev").text_a.tolist() == ["never seen"]


@pytest.mark.parametrize("content", ["{}", '{"task": 5, "splits": {}, "warnings": []}', "[1]", "{"])
def test_a_damaged_manifest_is_one_line(own: Path, content: str) -> None:
    data = planned_data(OWN)
    fetch_task(data)
    data.marker.write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json .*run again"):
        read_task(data)


def test_a_file_of_answers_covers_train_and_unlabelled(own: Path) -> None:
    (own / "more.csv").write_text(UNLABELLED)
    data = planned_data(OWN | {"unlabelled": "more.csv"})
    fetch_task(data)
    rows: list[dict[str, Any]] = [{"text": "and another", "label": "c"}, {"text": "bad", "label": "b"}]
    (own / "llm.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sha256 = sha256_file(own / "llm.jsonl")
    answers = answers_from_file(own / "llm.jsonl", data, sha256)
    assert answers.idx.tolist() == [1, 4] and answers.logits.argmax(axis=1).tolist() == [1, 2]
    assert answers.report.examples == 5 and answers.report.covered == 2
    (own / "llm.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(UserError, match=r"llm\.jsonl changed since the study was planned"):
        answers_from_file(own / "llm.jsonl", data, sha256)


def test_the_columns_of_a_parquet_file_are_in_their_order(own: Path) -> None:
    data = planned_data(OWN)
    fetch_task(data)
    assert pq.read_schema(data.folder / "train.parquet").names == ["idx", "text_a", "label"]
