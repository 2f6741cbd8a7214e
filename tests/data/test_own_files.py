"""A user's own CSV, TSV, JSON Lines and Parquet files: what is kept, what is found, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from internal_kd.data.own_files import read_own_files
from internal_kd.data.tasks_on_disk import FetchedTask
from internal_kd.errors import UserError
from planned import planned_task

GOOD = "text,label\nfine,pos\nawful,neg\n"


def read(project: Path, train: str | bytes, dev: str = GOOD, *, ending: str = "csv", **entry: Any) -> FetchedTask:
    """A task from texts of files."""
    names = {}
    for split, content in (("train", train), ("dev", dev)):
        path = project / f"{split}.{ending if split == 'train' or dev is not GOOD else 'csv'}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        names[split] = str(path)
    return read_own_files(planned_task({"source": "files", "text": ["text"], **names, **entry}))


def columns(task: FetchedTask, split: str = "train") -> dict[str, list[Any]]:
    return task.splits[split].table.to_pydict()


def test_classes_are_found_and_their_order_recorded(project: Path) -> None:
    task = read(project, GOOD)
    assert task.labels == ("neg", "pos") and task.metrics == ("accuracy", "f1")
    assert columns(task) == {"idx": [0, 1], "text_a": ["fine", "awful"], "label": [1, 0]}


def test_whole_numbers_keep_their_order(project: Path) -> None:
    rows = "text,label\na,10\nb,9\nc,2\n"
    task = read(project, rows, rows, metrics=["macro_f1"])
    assert task.labels == ("2", "9", "10") and columns(task)["label"] == [2, 1, 0] and task.metrics == ("macro_f1",)


def test_labels_given_decide_the_order(project: Path) -> None:
    task = read(project, GOOD, labels=["pos", "neg"])
    assert columns(task)["label"] == [0, 1]


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "1.0", "007", 'say "hi", twice', "two\nlines"])
def test_texts_stand_as_they_are_in_every_kind_of_file(project: Path, word: str) -> None:
    frame = pd.DataFrame({"text": [word, "other"], "label": ["a", "b"]})
    for ending, write in {
        "csv": lambda path: frame.to_csv(path, index=False),
        "jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        "parquet": lambda path: frame.to_parquet(path),
    }.items():
        path = project / f"all.{ending}"
        write(path)
        entry = {"source": "files", "train": str(path), "dev": str(path), "text": ["text"]}
        assert columns(read_own_files(planned_task(entry)))["text_a"] == [word, "other"], ending


def test_quotes_mean_nothing_in_tsv(project: Path) -> None:
    rows = 'label\ttext\na\t"open\nb\tclosed"\n'
    assert columns(read(project, rows, rows, ending="tsv"))["text_a"] == ['"open', 'closed"']


def test_pairs_and_a_test_file_without_labels(project: Path) -> None:
    rows = "q,a,label\nwho?,me,1\nwhy?,,0\n"
    (project / "test.csv").write_text("a,q\nhere,where?\n")
    task = read(project, rows, rows, text=["q", "a"], test=str(project / "test.csv"))
    assert columns(task)["text_b"] == ["me", ""]
    assert columns(task, "test") == {"idx": [0], "text_a": ["where?"], "text_b": ["here"], "label": [-1]}


def test_parquet_and_json_numbers_are_classes(project: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": [1.0, 0.0]})
    frame.to_parquet(project / "x.parquet")
    rows = "\n".join(json.dumps({"text": text, "label": label}) for text, label in (("a", 1), ("b", 0)))
    (project / "x.jsonl").write_text(rows)
    entry = {"train": str(project / "x.parquet"), "dev": str(project / "x.jsonl"), "source": "files", "text": ["text"]}
    task = read_own_files(planned_task(entry))
    assert task.labels == ("0", "1") and columns(task)["label"] == columns(task, "dev")["label"] == [1, 0]


def test_regression(project: Path) -> None:
    rows = "text,label\na,1.5\nb,-2e1\n"
    task = read(project, rows, rows, type="regression")
    assert columns(task)["label"] == [1.5, -20.0] and task.metrics == ("pearson", "spearman") and task.labels == ()


@pytest.mark.parametrize("target", ["", "NaN", "inf", "much"])
def test_a_target_that_is_no_number_is_refused(project: Path, target: str) -> None:
    with pytest.raises(UserError, match=r"train.csv line 3: (target|no label)"):
        read(project, f"text,label\na,1.5\nb,{target}\n", "text,label\na,1\n", type="regression")


@pytest.mark.parametrize(
    ("train", "entry", "said"),
    [
        ("sentence,label\na,b\n", {}, r"no column 'text'.*it has sentence, label"),
        ("texts,label\na,b\n", {}, r"no column 'text' \(did you mean 'texts'\?\)"),
        ("text,label\nfine,pos\n  ,neg\n", {}, r"line 3: text empty"),
        ("text,label\nfine,pos\nbad,\n", {}, r"line 3: no label in column 'label'"),
        ("text,label\nfine,pos\nbad,worse,neg\n", {}, r"line 3 has 3 fields, its header 2"),
        ('text,label\n"fine,pos\nbad,neg\n', {}, r"is no whole CSV file"),
        ("text,text\na,b\n", {}, r"has the column 'text' twice"),
        (GOOD, {"labels": ["pos", "negative"]}, r"label 'neg' is none of those given \(pos, negative\)"),
        ("text,label\nfine,pos\nok,none\n", {}, r"dev.csv line 3: label 'neg' is none of those in the train file"),
        ("text,label\na,1\nb,2\nc,3\n", {"metrics": ["f1"]}, r"f1 is for two classes, this task has 3: take macro_f1"),
        ("text,label\ncaf\xe9,a\n".encode("latin-1"), {}, r"train.csv is not UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line(project: Path, train: str | bytes, entry: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        read(project, train, **entry)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("", "train holds no examples"),
        ("text,label\n", "train holds no examples"),
        ("text,label\nfine,pos\nbad,pos\n", "all 2 training examples have the label 'pos'"),
    ],
)
@pytest.mark.parametrize("entry", [{}, {"labels": ["neg", "pos"]}], ids=["labels found", "labels given"])
def test_a_train_file_that_teaches_nothing_is_not_blamed_on_the_dev_file(
    project: Path, train: str, said: str, entry: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=rf"^tasks\.\w+: {said}"):
        read(project, train, **entry)


@pytest.mark.parametrize(
    ("ending", "content", "said"),
    [
        ("jsonl", '{"text": "a", "label": 1}\n{"text": "b"', r"line 2 is no JSON"),
        ("jsonl", '["a", 1]\n', r"line 1 is no JSON object"),
        ("jsonl", '{"text": null, "label": 1}\n', r"line 1: column 'text' is empty \(null\)"),
        ("jsonl", '{"text": ["a"], "label": 1}\n', r"line 1: column 'text' is no text but list"),
        ("parquet", "PAR1 cut short", r"cannot be read"),
        ("xlsx", "PK", r"is none of .csv, .tsv, .jsonl, .parquet"),
    ],
)
def test_a_broken_file_is_one_line(project: Path, ending: str, content: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        read(project, content, ending=ending)
    assert "\n" not in str(refusal.value)
