"""GLUE files are read as they are: marks, quotes, line ends, missing fields and all. The sentences are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_plans import planned_data
from internal_kd.data.examples import FetchedTask, check_task
from internal_kd.data.glue_files import read_glue_folder
from internal_kd.errors import UserError
from internal_kd.tasks.glue import GLUE

RTE = "index\tsentence1\tsentence2\tlabel\n"
RTE_ROWS = "0\tA cat sat.\tA cat sat down.\tentailment\n1\tNo dog ran.\tA dog ran.\tnot_entailment\n"
QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
MNLI = "index\tsentence1\tsentence2\tgold_label\n"
MNLI_ROWS = "0\tA.\tB.\tneutral\n1\tC.\tD.\tcontradiction\n"


def read(project: Path, task: str, files: dict[str, str | bytes]) -> FetchedTask:
    folder = project / "glue" / GLUE[task].title
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / f"{name}.tsv").write_bytes(data)
    return read_glue_folder(planned_data(None, task, data={"root": str(project / "glue")}))


def columns(task: FetchedTask, split: str = "train") -> dict[str, list[Any]]:
    return task.splits[split].table.to_pydict()


def test_a_pair_task_with_header_and_labels_in_words(project: Path) -> None:
    task = read(project, "rte", {"train": RTE + RTE_ROWS, "dev": RTE + RTE_ROWS, "test": RTE[:25] + "\n7\tA.\tB.\n"})
    assert columns(task) == {
        "idx": [0, 1],
        "text_a": ["A cat sat.", "No dog ran."],
        "text_b": ["A cat sat down.", "A dog ran."],
        "label": [0, 1],
    }
    assert columns(task, "test")["label"] == [-1] and columns(task, "test")["idx"] == [7]
    assert task.info.labels == ("entailment", "not_entailment") and task.info.source == "local files"
    assert task.info.rows == {"train": 2, "dev": 2, "test": 1} and task.info.texts == 2


def test_byte_order_mark_quotes_and_crlf(project: Path) -> None:
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    rows = '1\t5\t6\tHe said " yes .\t" Yes , " he said .\r\n0\t5\t7\tLine\u2028break\x85 .\tNo .\r\n'
    task = read(project, "mrpc", {"train": header + rows, "dev": header + rows})
    assert columns(task)["text_a"] == ['He said " yes .', "Line\u2028break\x85 ."]
    assert columns(task)["text_b"] == ['" Yes , " he said .', "No ."]
    assert columns(task)["idx"] == [0, 1]  # "#1 ID" stands twice and is no example id


def test_cola_has_no_header_but_its_test_file_has(project: Path) -> None:
    rows = "src\t1\t\tIt went well.\nsrc\t0\t*\tWell it went it.\n"
    task = read(project, "cola", {"train": rows, "dev": rows, "test": "index\tsentence\n0\tWent it?\n"})
    assert columns(task) == {"idx": [0, 1], "text_a": ["It went well.", "Well it went it."], "label": [1, 0]}
    assert columns(task, "test")["text_a"] == ["Went it?"]


def test_columns_may_stand_in_any_order(project: Path) -> None:
    rows = "label\tsentence2\tindex\tsentence1\nentailment\tB.\t4\tA.\nnot_entailment\tD.\t9\tC.\n"
    task = read(project, "rte", {"train": rows, "dev": rows})
    assert columns(task) == {"idx": [4, 9], "text_a": ["A.", "C."], "text_b": ["B.", "D."], "label": [0, 1]}


def test_broken_qqp_rows_are_left_out_and_counted(project: Path) -> None:
    rows = "7\t1\t2\tWhy?\tHow?\t0\n8\t3\t4\tonly one\n9\t5\t6\tWho?\t\t1\n"
    task = read(project, "qqp", {"train": QQP + rows, "dev": QQP + rows})
    assert columns(task)["idx"] == [7, 9] and columns(task)["text_b"] == ["How?", ""]
    assert task.splits["train"].dropped == {"missing fields": 1}


def test_mnli_has_two_dev_sets_and_rows_without_gold_label(project: Path) -> None:
    files = {"train": MNLI + MNLI_ROWS, "dev_matched": MNLI + MNLI_ROWS + "2\tE.\tF.\t-\n"}
    task = read(project, "mnli", {**files, "dev_mismatched": MNLI + MNLI_ROWS})
    assert list(task.splits) == ["train", "dev", "dev_mismatched"]
    assert columns(task, "dev")["label"] == [1, 2]
    assert task.splits["dev"].dropped == {"no gold label": 1}


def test_scores_are_numbers_in_their_range(project: Path) -> None:
    header = "index\tsentence1\tsentence2\tscore\n"
    good = header + "0\tA.\tB.\t3.75\n1\tC.\tD.\t0\n"
    task = read(project, "stsb", {"train": good, "dev": good})
    assert columns(task)["label"] == [3.75, 0.0] and task.info.kind == "values"
    for bad in ("5.1", "nan", "high", ""):
        with pytest.raises(UserError, match=r"train.tsv line 3: score .* is not a number from 0 to 5"):
            read(project, "stsb", {"train": header + f"0\tA.\tB.\t1\n1\tC.\tD.\t{bad}\n"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (RTE.replace("sentence2", "other") + RTE_ROWS, r"train.tsv has no column 'sentence2'; its columns are index, "),
        (
            RTE + "0\tA.\tB.\tmaybe\n",
            r"train.tsv line 2: label 'maybe' is not one of RTE's: entailment, not_entailment",
        ),
        (RTE + "0\tA.\tB.\t1\n", r"train.tsv line 2: label '1' is not one of RTE's"),
        (RTE + RTE_ROWS + "\n2\tA.\n", r"train.tsv line 5 has 2 fields instead of 4"),
        (RTE + "0\tA.\tB.\tB again.\tentailment\n", r"train.tsv line 2: label 'B again.' is not one"),
        ("", r"train.tsv is empty"),
        ((RTE + "0\tcaf\xe9\tB.\tentailment\n").encode("latin-1"), r"train.tsv is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(project: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(project, "rte", {"train": content, "dev": RTE + RTE_ROWS})


def test_a_tab_inside_a_text_is_refused_where_texts_come_last(project: Path) -> None:
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    with pytest.raises(UserError, match="line 2 has 6 fields instead of 5"):
        read(project, "mrpc", {"train": header + "1\t1\t2\tA.\tB.\tC.\n", "dev": header})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "train has no examples"),
        ("0\tA.\tB.\tentailment\n", "all 1 training examples have the label 'entailment'"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(project: Path, rows: str, said: str) -> None:
    task = read(project, "rte", {"train": RTE + rows, "dev": RTE + RTE_ROWS})
    with pytest.raises(UserError, match=said):
        check_task(task)


def test_a_folder_that_is_not_the_official_one_gives_its_name(project: Path) -> None:
    folder = project / "glue" / "RTE-small"
    folder.mkdir(parents=True)
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text(RTE + RTE_ROWS)
    data = planned_data({"folder": "RTE-small"}, "rte", data={"root": str(project / "glue")})
    assert read_glue_folder(data).info.title == "RTE-small"


def test_a_value_that_a_test_file_does_not_have_is_missing(project: Path) -> None:
    header = "index\tsentence1\tsentence2"
    train = f"{header}\tscore\n0\tA.\tB.\t3.75\n1\tC.\tD.\t0\n"
    task = read(project, "stsb", {"train": train, "dev": train, "test": f"{header}\n0\tA.\tB.\n"})
    assert columns(task, "test")["label"] == [None]
