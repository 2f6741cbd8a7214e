"""Broken data files of every kind: each is a task, row by row as it was written, or one line that names the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plans import planned_data
from internal_kd.data.examples import FetchedTask, check_task
from internal_kd.data.glue_files import read_glue_folder
from internal_kd.data.own_files import fetch_own_files
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Data
from internal_kd.tasks.glue import GLUE

KINDS = ("csv", "tsv", "jsonl", "parquet")
ROWS = [{"q": f"what is {n}?", "a": f"it is {n}", "label": str(n % 2), "other": str(n)} for n in range(6)]

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n\t"), max_size=12)
insertions = st.sampled_from(
    [
        b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b'"', b"'", b"\t", b"\r", b"\n", b"\r\n", b",", b"\\", b"{",
        b"[", b"null", b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"', b"[" * 2000, b"PAR1", b"\xc3", b"\xe2\x80\xa8",
        b"\x1b[31m", b"-", b"1.5", b"true", b"",
    ]
)  # fmt: skip
damages = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), insertions), min_size=1, max_size=3)


def content(kind: str, rows: list[dict[str, Any]]) -> bytes:
    """Rows as a complete file of a kind."""
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    text = io.StringIO()
    if kind == "csv":
        writer = csv.writer(text)
        writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
        return text.getvalue().encode()
    return "".join("\t".join(fields) + "\n" for fields in [list(rows[0]), *(row.values() for row in rows)]).encode()


def damaged(data: bytes, where: list[tuple[float, int, bytes]]) -> bytes:
    for share, length, piece in where:
        start = round(share * len(data))
        data = data[:start] + piece + data[start + length :]
    return data


def read(folder: Path, kind: str, train: bytes, **entry: Any) -> FetchedTask | str:
    """The checked task of a training file beside a good dev file, or the one line of its refusal."""
    paths = {split: folder / f"{split}.{kind}" for split in ("train", "dev")}
    paths["train"].write_bytes(train)
    paths["dev"].write_bytes(content(kind, ROWS))
    files = {split: str(path) for split, path in paths.items()}
    task_data = plan_own(json.dumps({"source": "files", "text": ["q", "a"], **files, **entry}))
    try:
        task = fetch_own_files(task_data)
        check_task(task)
        return task
    except UserError as refusal:
        return one_line(refusal, "train.", "dev.", "tasks.mine")


@cache
def plan_own(entry: str) -> Data:
    """Planned once: hashing every damaged file again would take most of the time."""
    return planned_data(json.loads(entry))


@cache
def plan_glue(task: str, folder: Path) -> Data:
    return planned_data(None, task, data={"root": str(folder)})


def one_line(refusal: UserError, *names: str) -> str:
    line = str(refusal)
    assert line.splitlines() == [line] and line.isprintable() and len(line) < 1500
    assert any(name in line for name in names), line
    return line


def rows_of(task: FetchedTask) -> list[tuple[str, str, str]]:
    table = task.splits["train"].table.to_pydict()
    return [
        (a, b, task.info.labels[y]) for a, b, y in zip(table["text_a"], table["text_b"], table["label"], strict=True)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("files"))
        yield Path.cwd()


@pytest.mark.parametrize("kind", KINDS)
@given(damages)
def test_a_damaged_file_is_a_task_or_one_line(folder: Path, kind: str, where: list[tuple[float, int, bytes]]) -> None:
    done = read(folder, kind, damaged(content(kind, ROWS), where))
    if isinstance(done, FetchedTask):
        table = done.splits["train"].table
        assert table.num_rows >= 2 and table["label"].null_count == table["text_a"].null_count == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_truncated_at_any_byte_is_a_task_of_complete_rows_or_one_line(folder: Path, kind: str) -> None:
    data = content(kind, ROWS)
    whole = {(row["q"], row["a"]) for row in ROWS}
    for end in range(0, len(data), 1 if kind != "parquet" else 7):
        done = read(folder, kind, data[:end])
        if isinstance(done, FetchedTask):
            # Text files do not say how long they are; of the last row only its very end may be missing.
            assert {row[:2] for row in rows_of(done)} <= whole
        if kind == "parquet":
            assert isinstance(done, str)


@pytest.mark.parametrize("kind", KINDS)
@given(st.permutations(list(ROWS[0])), st.lists(st.tuples(words, words), min_size=2, max_size=5))
def test_every_text_comes_back_whatever_the_order_of_columns(
    folder: Path, kind: str, order: list[str], texts: list[tuple[str, str]]
) -> None:
    given_rows = [{"q": f"q{q}", "a": a, "label": str(n % 2), "other": ""} for n, (q, a) in enumerate(texts)]
    done = read(folder, kind, content(kind, [{column: row[column] for column in order} for row in given_rows]))
    assert isinstance(done, FetchedTask), done
    assert rows_of(done) == [(row["q"], row["a"], row["label"]) for row in given_rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["q", "a", "label"])
def test_a_missing_column_is_named(folder: Path, kind: str, column: str) -> None:
    done = read(folder, kind, content(kind, [{k: v for k, v in row.items() if k != column} for row in ROWS]))
    assert isinstance(done, str) and f"no column {column!r}" in done


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["q", "label"])
def test_a_column_given_twice_is_refused(folder: Path, kind: str, column: str) -> None:
    if kind == "parquet":
        table = pa.Table.from_pylist(ROWS)
        sink = io.BytesIO()
        pq.write_table(table.append_column(column, pa.array(["x"] * len(ROWS))), sink)
        data = sink.getvalue()
    elif kind == "jsonl":
        data = b"".join(json.dumps(row)[:-1].encode() + f', "{column}": "x"}}\n'.encode() for row in ROWS)
    else:
        separator = "," if kind == "csv" else "\t"
        lines = content(kind, ROWS).decode().splitlines()
        data = "\n".join(f"{line}{separator}{'x' if n else column}" for n, line in enumerate(lines)).encode()
    done = read(folder, kind, data)
    assert isinstance(done, str) and f"{column!r} twice" in done


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**row, "label": "1"} for row in ROWS], "all 6 training examples have the label '1'"),
        ([{**ROWS[0], "label": "9" * 5000}, *ROWS], "label"),
        ([{**ROWS[0], "label": " "}, *ROWS], "no label"),
        ([{**ROWS[0], "q": " ", "a": ""}, *ROWS], "empty"),
    ],
)
def test_labels_and_texts_nothing_can_be_learned_from_are_named(
    folder: Path, kind: str, rows: list[dict[str, Any]], said: str
) -> None:
    done = read(folder, kind, content(kind, rows), labels=["0", "1"])
    assert isinstance(done, str) and said in done


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_too_long_to_be_one_is_a_class_like_any_word(folder: Path, kind: str) -> None:
    rows = [{**row, "label": "9" * (1 + 4999 * (n % 2))} for n, row in enumerate(ROWS)]
    assert "label '0' is not one of those in the train file" in str(read(folder, kind, content(kind, rows)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_another_encoding_is_named_and_a_byte_order_mark_does_not_matter(
    folder: Path, kind: str, encoding: str
) -> None:
    rows = [{**row, "q": f"caf\xe9 {n}"} for n, row in enumerate(ROWS)]
    done = read(folder, kind, content(kind, rows).decode().encode(encoding))
    name = {"latin-1": "not UTF-8"}.get(encoding, encoding.upper())
    assert isinstance(done, FetchedTask) if encoding == "utf-8-sig" else name in str(done)


odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(), st.binary(max_size=3), st.dates(),
    st.lists(st.integers(0, 3), max_size=2), words,
)  # fmt: skip


@given(st.sampled_from(["q", "label", "other"]), odd_values)
def test_any_type_in_parquet_is_a_task_or_one_line(folder: Path, column: str, value: Any) -> None:
    columns: dict[str, Any] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    columns[column] = [value] * len(ROWS)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    read(folder, "parquet", sink.getvalue())


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_a_text_in_csv_and_a_missing_one_elsewhere(folder: Path, kind: str) -> None:
    if kind == "parquet":
        sink = io.BytesIO()
        columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
        pq.write_table(pa.table({**columns, "q": [float("nan")] * 6}), sink)
        data = sink.getvalue()
    else:
        data = content(kind, ROWS).replace(b'"what is 3?"', b"NaN")
    assert isinstance(read(folder, kind, data), FetchedTask)  # of a pair, one may be missing
    done = read(folder, kind, data, text=["q"])
    assert isinstance(done, str) if kind in ("parquet", "jsonl") else isinstance(done, FetchedTask)


# GLUE's own files.

GLUE_ROWS = {
    "rte": ["index\tsentence1\tsentence2\tlabel"]
    + [f"{n}\tA cat {n}.\tA dog.\t{'not_' * (n % 2)}entailment" for n in range(5)],
    "cola": [f"src\t{n % 2}\t\tIt went {n}." for n in range(5)],
    "mrpc": ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"] + [f"{n % 2}\t1\t2\tOne {n}.\tTwo." for n in range(5)],
    "qqp": ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"]
    + [f"{n}\t1\t2\tWhy {n}?\tHow?\t{n % 2}" for n in range(5)],
    "stsb": ["index\tsentence1\tsentence2\tscore"] + [f"{n}\tA {n}.\tB.\t{n}.5" for n in range(5)],
}


def read_glue(folder: Path, task: str, train: bytes) -> FetchedTask | str:
    place = folder / GLUE[task].title
    place.mkdir(exist_ok=True)
    (place / "train.tsv").write_bytes(train)
    (place / "dev.tsv").write_text("\n".join(GLUE_ROWS[task]) + "\n")
    try:
        fetched = read_glue_folder(plan_glue(task, folder))
        check_task(fetched)
        return fetched
    except UserError as refusal:
        return one_line(refusal, "train.tsv", f"tasks.{task}")


@pytest.mark.parametrize("task", GLUE_ROWS)
@given(damages)
def test_a_damaged_glue_file_is_a_task_or_one_line(
    folder: Path, task: str, where: list[tuple[float, int, bytes]]
) -> None:
    done = read_glue(folder, task, damaged(("\n".join(GLUE_ROWS[task]) + "\n").encode(), where))
    if isinstance(done, FetchedTask):
        table = done.splits["train"].table
        assert table["label"].null_count == table["text_a"].null_count == 0 and table.num_rows >= 2


@pytest.mark.parametrize("task", [task for task in GLUE_ROWS if task != "cola"])
@given(st.data())
def test_columns_of_a_glue_file_may_stand_in_any_order(folder: Path, task: str, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(GLUE_ROWS[task][0].count("\t") + 1)))
    rows = [line.split("\t") for line in GLUE_ROWS[task]]
    shuffled = "\n".join("\t".join(row[column] for column in order) for row in rows)
    straight, done = (read_glue(folder, task, text.encode()) for text in ("\n".join(GLUE_ROWS[task]), shuffled))
    assert isinstance(straight, FetchedTask) and isinstance(done, FetchedTask)
    assert done.splits["train"].table.equals(straight.splits["train"].table)


@pytest.mark.parametrize("task", [task for task in GLUE_ROWS if task != "cola"])
def test_a_needed_column_of_a_glue_file_given_twice_is_refused(folder: Path, task: str) -> None:
    layout = GLUE[task].splits["train"]
    for column in (*layout.text, layout.label):
        lines = [f"{line}\t{'x' if n else column}" for n, line in enumerate(GLUE_ROWS[task])]
        done = read_glue(folder, task, "\n".join(lines).encode())
        assert isinstance(done, str) and f"{column!r} twice" in done
