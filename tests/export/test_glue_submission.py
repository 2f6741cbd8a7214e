"""GLUE's server takes files of one name, one header and one way to write each task's labels."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from internal_kd.export.glue_submission import submission_files, submission_text, write_archive
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.info import TaskInfo

FILES = {
    "cola": ["CoLA.tsv"],
    "sst2": ["SST-2.tsv"],
    "mrpc": ["MRPC.tsv"],
    "stsb": ["STS-B.tsv"],
    "qqp": ["QQP.tsv"],
    "mnli": ["MNLI-m.tsv", "MNLI-mm.tsv"],
    "qnli": ["QNLI.tsv"],
    "rte": ["RTE.tsv"],
    "wnli": ["WNLI.tsv"],
}


def info_of(glue: str, *splits: str, **changes: str) -> TaskInfo:
    rows = dict.fromkeys(splits or GLUE[glue].splits, 3)
    return replace(GLUE[glue].info(rows, ""), **changes)


@pytest.mark.parametrize("glue", GLUE)
def test_every_task_has_its_official_file_names(glue: str) -> None:
    assert list(submission_files(glue, info_of(glue)).values()) == FILES[glue]


def test_what_is_not_glues_own_or_has_no_test_set_has_no_file() -> None:
    assert submission_files(None, info_of("rte")) == {}
    assert submission_files("rte", info_of("rte", title="MyRTE")) == {}
    assert submission_files("rte", info_of("rte", "train", "dev")) == {}
    assert submission_files("mnli", info_of("mnli", "test")) == {"test": "MNLI-m.tsv"}


@pytest.mark.parametrize(
    ("glue", "words"),
    [
        ("cola", ["0", "1"]),
        ("sst2", ["0", "1"]),
        ("mrpc", ["0", "1"]),
        ("qqp", ["0", "1"]),
        ("wnli", ["0", "1"]),
        ("rte", ["entailment", "not_entailment"]),
        ("qnli", ["entailment", "not_entailment"]),
        ("mnli", ["entailment", "neutral", "contradiction"]),
    ],
)
def test_labels_are_written_as_the_task_writes_them(glue: str, words: list[str]) -> None:
    logits = np.eye(len(words))
    lines = submission_text(glue, range(len(words)), logits).splitlines()
    assert lines[0] == "index\tprediction"
    assert lines[1:] == [f"{number}\t{word}" for number, word in enumerate(words)]


def test_similarities_stay_between_0_and_5() -> None:
    text = submission_text("stsb", [0, 1, 2], np.array([[-0.7], [2.34567], [5.2]]))
    assert text == "index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n"


def test_lines_stand_in_the_order_of_the_examples_numbers() -> None:
    shuffled = submission_text("cola", [2, 0, 1], np.array([[0, 9], [9, 0], [0, 9]]))
    assert shuffled == "index\tprediction\n0\t0\n1\t1\n2\t1\n"


def test_the_archive_holds_the_files_flat_and_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("RTE.tsv", "CoLA.tsv"):
        (tmp_path / name).write_text(f"index\tprediction\n0\t{name}\n")
    files = {name: tmp_path / name for name in ("RTE.tsv", "CoLA.tsv")}
    write_archive(tmp_path / "one.zip", files)
    write_archive(tmp_path / "two.zip", dict(reversed(files.items())))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["CoLA.tsv", "RTE.tsv"]
        assert archive.read("RTE.tsv").decode().endswith("RTE.tsv\n")
