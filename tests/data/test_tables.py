"""Tables that people bring: columns nobody asks for are not read, and surprises are named with the way out."""

from __future__ import annotations

import gzip
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from internal_kd.data.tables import columns_of, rows_of
from internal_kd.errors import UserError


def table(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, *columns: str) -> list[tuple[Any, ...]]:
    return [values for _, values in rows_of(path, columns or ("text", "label"))]


def refusal(path: Path, *columns: str) -> str:
    with pytest.raises(UserError) as refused:
        read(path, *columns)
    line = str(refused.value)
    assert "\n" not in line and path.name in line
    return line


ZIP = io.BytesIO()
with zipfile.ZipFile(ZIP, "w") as archive:
    archive.writestr("train.csv", "text,label\na,b\n")
CSV = "text,label\nfine,pos\nbad,neg\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", gzip.compress(CSV.encode(), mtime=0), ["gzip", "gunzip -c a.csv > new.csv"]),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0), ["gzip", "decompress"]),
        ("a.tsv", CSV.replace(",", "\t").encode("utf-16"), ["UTF-16", "iconv -f utf-16 -t utf-8 a.tsv"]),
        ("a.csv", CSV.encode("utf-16-le"), ["UTF-16", "iconv -f utf-16le"]),
        ("a.csv", CSV.encode("utf-16-be"), ["UTF-16", "iconv -f utf-16be"]),
        ("a.csv", CSV.encode("utf-32"), ["UTF-32", "iconv -f utf-32"]),
        ("a.csv", ZIP.getvalue(), ["ZIP", "Excel"]),
        ("a.csv", b"PAR1....PAR1", ["Parquet", "rename"]),
        ("a.parquet", CSV, ["cannot be read"]),
        ("a.parquet", gzip.compress(b"x", mtime=0), ["gzip"]),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", ["Git LFS", "git lfs pull"]),
        ("a.csv", "<!DOCTYPE html><html>404</html>", ["HTML page"]),
        ("a.csv", "text;label\nfine, really;pos\nbad;neg\n", ["separated by semicolons", "commas"]),
        ("a.tsv", CSV, ["separated by commas", ".csv"]),
        ("a.csv", "text|label\nfine|pos\n", ["separated by vertical bars"]),
        ("a.csv", "text,label\nfine\rreally,pos\n", ["line 2", "carriage return", "quote"]),
        ("a.csv", "text,label\rfine,pos\r", ["carriage return alone"]),
        ("a.csv", '"text";"label"\n"fine, really";"pos"\n', ["separated by semicolons"]),
        ("a.csv", "text label\nfine pos\n", ["separated by spaces"]),
        ("a.csv", "sep=\t\ntext\tlabel\n", ["Excel", "remove"]),
        ("a.csv", b"\x04\x22\x4d\x18aaaa", ["lz4"]),
        ("a.csv", b"x\x9c\x03\x04\x05aaaa", ["not text"]),
        ("a.csv", "text,label\n日本語日本語日本語日本語日本語,x\n".encode("utf-16-le"), ["UTF-16", "iconv"]),
        ("a.jsonl", '[\n{"text": "a", "label": 1}\n]', ["line 1", "jq -c '.[]' a.jsonl"]),
        ("a.jsonl", '{\n"text": "a"\n}', ["line 1", "jq -c '.' a.jsonl"]),
        ("a.json", CSV, ["jq -c '.[]' a.json > a.jsonl"]),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"', ["line 2 is not JSON"]),
        ("a.jsonl", '"a"\n', ["line 1 is not a JSON object"]),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', ["line 2: no column 'label'"]),
        ("a.xlsx", ZIP.getvalue(), ["ZIP", "Excel"]),
    ],
)
def test_a_surprise_is_named_with_the_way_out(tmp_path: Path, name: str, content: str | bytes, said: list[str]) -> None:
    line = refusal(table(tmp_path, name, content))
    assert all(part in line for part in said), line


def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    expected = [("fine", "pos"), ("bad", "neg")]
    for name, content in {
        "bom.csv": "\ufeff" + CSV,
        "crlf.csv": CSV.replace("\n", "\r\n"),
        "crlf.tsv": CSV.replace(",", "\t").replace("\n", "\r\n"),
        "spaces.csv": CSV.replace("text,label", "text, label"),
        "unfinished.csv": CSV[:-1],
        "blank.csv": CSV + "\n\n",
        "empty rows.csv": CSV + ",\n,\n",
    }.items():
        assert read(table(tmp_path, name, content)) == expected, name


def test_a_quoted_text_keeps_its_line_ends(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", 'text,label\n"a\rb",1\n"c\r\nd\ne",0\n')
    assert read(path) == [("a\rb", "1"), ("c\r\nd\ne", "0")]


UNREAD = {
    "unknown time zone": pa.array([0, 1], pa.timestamp("us", "America/Nowhere")),
    "a date far away": pa.array([2**62, 0], pa.timestamp("us")),
    "bytes called text": pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"a"]).buffers()),
    "a list": pa.array([[1], []]),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_a_parquet_column_nobody_asks_for_is_not_read(tmp_path: Path, kind: str) -> None:
    columns = {"text": ["fine", "bad"], "label": [1, 0], "unused": UNREAD[kind], "text.more": ["x", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [("fine", 1), ("bad", 0)]
    assert columns_of(tmp_path / "a.parquet") == tuple(columns)


def test_a_parquet_column_whose_values_cannot_be_read_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": UNREAD["a date far away"][:1]}), tmp_path / "a.parquet")
    assert "column 'label' (timestamp[us])" in refusal(tmp_path / "a.parquet")


def test_an_object_may_lack_an_optional_column_that_others_have(tmp_path: Path) -> None:
    path = table(tmp_path, "a.jsonl", '{"a": "x", "b": "y"}\n{"a": "z"}\n')
    assert [values for _, values in rows_of(path, ["a"], ["b"])] == [("x", "y"), ("z", None)]
    with pytest.raises(UserError, match="no column 'bb'"):
        list(rows_of(path, ["a"], ["bb"]))


def test_bytes_that_are_not_utf8_matter_only_in_the_columns_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", "text,label,caf\xe9\nfine,pos,na\xefve\n".encode("latin-1"))
    assert read(path) == [("fine", "pos")]


def test_a_repeated_column_matters_only_if_it_is_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", "text,,label,\nfine,1,pos,2\n")
    assert read(path) == [("fine", "pos")]
    assert "'label' twice" in refusal(table(tmp_path, "b.csv", "text,label,label\na,b,c\n"))


def test_a_wide_table_takes_time_in_proportion(tmp_path: Path) -> None:
    def seconds(width: int) -> float:
        names = ",".join(f"c{i}" for i in range(width))
        path = table(tmp_path, "wide.csv", f"text,label,{names}\na,1,{','.join('1' * width)}\n")
        started = time.process_time()
        assert read(path) == [("a", "1")]
        return time.process_time() - started

    seconds(10)
    assert seconds(200_000) < 1.0  # counting every name among all of them took minutes
