"""A user's own CSV, TSV, JSON Lines and Parquet files: what is kept, what is found, and one line for what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_plans import planned_data
from internal_kd.data.examples import FetchedTask
from internal_kd.data.own_files import fetch_own_files, read_texts
from internal_kd.errors import UserError

GOOD = "text,label\nfine,pos\nawful,neg\n"


def read(
    folder: Path, train: str | bytes, dev: str | bytes = GOOD, *, ending: str = "csv", **given: Any
) -> FetchedTask:
    """A task from the content of its files."""
    files = {}
    for split, content in (("train", train), ("dev", dev)):
        files[split] = folder / f"{split}.{ending if split == 'train' or dev is not GOOD else 'csv'}"
        files[split].write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_files(files | given.pop("files", {}), **given)


def read_files(files: dict[str, Path], **given: Any) -> FetchedTask:
    """A task of files that are there; further splits are read as those of GLUE would be."""
    named = {split: str(path) for split, path in files.items() if split in ("train", "dev", "test")}
    data = planned_data({"source": "files", **named, **given})
    return fetch_own_files(replace(data, files=files))


def same(folder: Path, content: str | bytes, **given: Any) -> FetchedTask:
    """A task whose two files have the same content."""
    return read(folder, content, content, **given)


def texts(task: FetchedTask, split: str = "train") -> list[str]:
    return columns(task, split)[0]


def columns(task: FetchedTask, split: str = "train") -> list[list[str]]:
    table = task.splits[split].table
    return [table[name].to_pylist() for name in ("text_a", "text_b") if name in table.column_names]


def labels(task: FetchedTask, split: str = "train") -> Any:
    return task.splits[split].table["label"].to_pylist()


def refusal(folder: Path, *arguments: Any, **given: Any) -> str:
    """The one line that refuses a task."""
    with pytest.raises(UserError) as refused:
        read(folder, *arguments, **given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_classes_are_found_and_sorted(tmp_path: Path) -> None:
    task = read(tmp_path, GOOD)
    assert task.info.labels == ("neg", "pos") and labels(task) == [1, 0] and texts(task) == ["fine", "awful"]


def test_whole_numbers_keep_their_order(tmp_path: Path) -> None:
    task = same(tmp_path, "text,label\na,10\nb,9\nc,2\n")
    assert task.info.labels == ("2", "9", "10") and labels(task) == [2, 1, 0]


def test_labels_given_decide_the_order(tmp_path: Path) -> None:
    assert labels(read(tmp_path, GOOD, labels=("pos", "neg"))) == [0, 1]


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "1.0", "007", 'say "hi", twice', "two\nlines", " x "])
def test_texts_stay_as_they_are_in_every_kind_of_file(tmp_path: Path, word: str) -> None:
    frame = pd.DataFrame({"text": [word, "other"], "label": ["a", "b"]})
    for ending, write in {
        "csv": lambda path: frame.to_csv(path, index=False),
        "jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        "parquet": lambda path: frame.to_parquet(path),
    }.items():
        path = tmp_path / f"all.{ending}"
        write(path)
        task = read_files({"train": path, "dev": path})
        assert texts(task) == [word, "other"], ending


def test_quotes_mean_nothing_in_tsv(tmp_path: Path) -> None:
    assert texts(read(tmp_path, 'label\ttext\npos\t"open\nneg\tclosed"\n', ending="tsv")) == ['"open', 'closed"']


def test_pairs_and_a_test_file_without_labels(tmp_path: Path) -> None:
    rows = "q,a,label\nwho?,me,1\nwhy?,,0\n"
    (tmp_path / "test.csv").write_text("a,q\nhere,where?\n")
    task = same(tmp_path, rows, text=("q", "a"), files={"test": tmp_path / "test.csv"})
    assert columns(task)[1] == ["me", ""]
    assert columns(task, "test") == [["where?"], ["here"]] and labels(task, "test") == [-1]


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_the_second_text_of_a_pair_may_be_missing(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"a": ["fine", "bad"], "b": ["x", None], "label": [1, 0]})
    path = tmp_path / f"pairs.{ending}"
    if ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    task = read_files({"train": path, "dev": path}, text=("a", "b"))
    assert columns(task) == [["fine", "bad"], ["x", ""]]


def test_a_pair_without_any_text_is_refused(tmp_path: Path) -> None:
    rows = '{"a": "x", "b": "y", "label": 1}\n{"a": null, "b": " ", "label": 0}\n'
    assert "line 2: a and b empty" in refusal(tmp_path, rows, ending="jsonl", text=("a", "b"))


def test_parquet_json_and_csv_numbers_are_the_same_classes(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"], "label": [1.0, 0.0]}).to_parquet(tmp_path / "x.parquet")
    rows = "\n".join(json.dumps({"text": text, "label": label}) for text, label in (("a", 1), ("b", 0)))
    (tmp_path / "x.jsonl").write_text(rows)
    (tmp_path / "x.csv").write_text("text,label\na,1.0\nb,0\n")
    files = {"train": tmp_path / "x.parquet", "dev": tmp_path / "x.jsonl", "dev_mismatched": tmp_path / "x.csv"}
    task = read_files(files)
    assert task.info.labels == ("0", "1") and all(labels(task, split) == [1, 0] for split in files)


def test_class_numbers_go_by_the_names_that_datasets_wrote_beside_the_schema(tmp_path: Path) -> None:
    feature = {"label": {"names": ["pos", "neg"], "_type": "ClassLabel"}}
    table = pa.table({"text": ["fine", "awful"], "label": [0, 1]})
    named = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(named, tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text(GOOD)
    files = {"train": tmp_path / "x.parquet", "dev": tmp_path / "x.csv"}
    task = read_files(files)
    assert task.info.labels == ("neg", "pos") and labels(task) == labels(task, "dev") == [1, 0]
    numbers = read_files({"train": tmp_path / "x.parquet", "dev": tmp_path / "x.parquet"}, labels=("0", "1"))
    assert numbers.info.labels == ("0", "1") and labels(numbers) == [0, 1]


def test_values(tmp_path: Path) -> None:
    task = same(tmp_path, "text,label\na,1.5\nb,-2e1\n", kind="values")
    assert labels(task) == [1.5, -20.0] and task.info.labels == ()


@pytest.mark.parametrize(
    ("target", "said"), [("", "no number"), ("NaN", "no number"), ("inf", "inf"), ("1e300", "1e300"), ("much", "much")]
)
def test_a_target_that_is_not_a_number_is_refused(tmp_path: Path, target: str, said: str) -> None:
    line = refusal(tmp_path, f"text,label\na,1.5\nb,{target}\n", "text,label\na,1\n", kind="values")
    assert "train.csv line 3" in line and said in line


def test_a_decimal_comma_is_named(tmp_path: Path) -> None:
    line = refusal(tmp_path, 'text,label\na,1.5\nb,"3,5"\n', kind="values")
    assert "'3,5'" in line and "decimal point" in line


@pytest.mark.parametrize(
    ("train", "given", "said"),
    [
        ("text,text,label\na,b,c\n", {}, ["has the column 'text' twice"]),
        (GOOD, {"labels": ("pos", "negative")}, ["label 'neg'", "those listed (pos, negative)"]),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, train: str | bytes, given: dict[str, Any], said: list[str]) -> None:
    line = refusal(tmp_path, train, **given)
    assert all(part in line for part in said), line


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("", "train.csv is empty"),
        ("text,label\n", "tasks.mine: train has no examples"),
        ("text,label\nfine,pos\nbad,pos\n", "tasks.mine: all 2 training examples have the label 'pos'"),
    ],
)
@pytest.mark.parametrize("given", [{}, {"labels": ("neg", "pos")}], ids=["labels found", "labels given"])
def test_a_train_file_that_teaches_nothing_is_not_blamed_on_the_dev_file(
    tmp_path: Path, train: str, said: str, given: dict[str, Any]
) -> None:
    assert said in refusal(tmp_path, train, **given)


@pytest.mark.parametrize(
    ("train", "said"),
    [("text,label\n", "train has no examples"), ("text,label\na,-1\nb,-1\n", "all 2 training examples have the value")],
)
def test_a_train_file_without_different_values_is_named(tmp_path: Path, train: str, said: str) -> None:
    assert f"tasks.mine: {said}" in refusal(tmp_path, train, "text,label\na,1\n", kind="values")


def test_texts_without_labels_are_read_from_the_first_columns_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("id,text,label\n1,one,x\n2,two,\n")
    assert read_texts(path, [("sentence",), ("text",)]) == [["one", "two"]]
    with pytest.raises(UserError, match=r"no column 'a' and 'b' or 'text_a' and 'text_b'; it has id, text, label"):
        read_texts(path, [("a", "b"), ("text_a", "text_b")])
    path.write_text("text\n")
    with pytest.raises(UserError, match=r"more\.csv has no rows"):
        read_texts(path, [("text",)])
