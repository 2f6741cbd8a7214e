"""A file of answers: every form of it, how it is matched with examples, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from internal_kd.data.answer_forms import LABEL_SMOOTHING
from internal_kd.data.answers_file import read_answers
from internal_kd.data.answers_match import AnswerRows, FileAnswers, align
from internal_kd.errors import UserError

LABELS = ("no", "yes", "maybe")
EXAMPLES = [("fine",), ("bad",), ("so so",)]
TEXT = [("text",)]


def write(folder: Path, rows: list[dict[str, Any]], name: str = "answers.jsonl") -> Path:
    """Rows as a file of any kind."""
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        lines = [list(rows[0])] + [list(row.values()) for row in rows]
        quoted = ["" if v is None else json.dumps(v) if isinstance(v, dict) else str(v) for line in lines for v in line]
        quoted = ['"' + value.replace('"', '""') + '"' for value in quoted]
        width = len(lines[0])
        path.write_text("\n".join(",".join(quoted[at : at + width]) for at in range(0, len(quoted), width)) + "\n")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def read(folder: Path, rows: list[dict[str, Any]], name: str = "answers.jsonl", kind: str = "classes") -> AnswerRows:
    return read_answers(write(folder, rows, name), kind, LABELS if kind == "classes" else (), TEXT)


def aligned(
    folder: Path, rows: list[dict[str, Any]], kind: str = "classes", name: str = "answers.jsonl"
) -> FileAnswers:
    """Answers to the three examples, whose ids are 10, 11 and 12."""
    return align(read(folder, rows, name, kind), [10, 11, 12], EXAMPLES, LABELS if kind == "classes" else ())


def refusal(folder: Path, rows: list[dict[str, Any]], **given: Any) -> str:
    with pytest.raises(UserError) as refused:
        aligned(folder, rows, **given)
    assert "\n" not in str(refused.value) and "answers." in str(refused.value)
    return str(refused.value)


def shares(answers: FileAnswers) -> np.ndarray:
    """The distributions that a student learns from."""
    powers = np.exp(answers.logits - answers.logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


P = {"no": 0.7, "yes": 0.2, "maybe": 0.1}
FORMS: dict[str, dict[str, Any]] = {
    "nested probabilities": {"probabilities": P},
    "other name": {"probs": P},
    "another order": {"probabilities": dict(reversed(P.items()))},
    "flat probabilities": {f"probability_{label}": p for label, p in P.items()},
    "columns named like classes": dict(P),
    "nested logits": {"logits": {label: float(np.log(p)) + 3 for label, p in P.items()}},
    "flat logits": {f"logit_{label}": float(np.log(p)) - 1 for label, p in P.items()},
    "logarithms": {"logprobs": {label: float(np.log(p)) for label, p in P.items()}},
    "probabilities win over the label": {"label": "yes", "probabilities": P},
    "rounded": {"probabilities": {"no": 0.7, "yes": 0.2, "maybe": 0.095}},
}


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.csv", "answers.parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_distribution(tmp_path: Path, form: str, name: str) -> None:
    answers = aligned(tmp_path, [{"text": text, **FORMS[form]} for (text,) in EXAMPLES], name=name)
    assert answers.idx.tolist() == [10, 11, 12] and answers.idx.dtype == np.int64
    assert answers.logits.dtype == np.float32 and answers.logits.shape == (3, 3)
    np.testing.assert_allclose(shares(answers), [list(P.values())] * 3, atol=0.006)


def test_logits_stay_as_they_are(tmp_path: Path) -> None:
    logits = {"yes": 2.0, "no": -1.5, "maybe": 0.25}
    assert aligned(tmp_path, [{"idx": 11, "logits": logits}]).logits.tolist() == [[-1.5, 2.0, 0.25]]


def test_a_map_of_parquet_is_an_object(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.float64())
    table = pa.table({"idx": [10], "probabilities": pa.array([list(P.items())], kind)})
    pq.write_table(table, tmp_path / "answers.parquet")
    rows = read_answers(tmp_path / "answers.parquet", "classes", LABELS, TEXT)
    np.testing.assert_allclose(np.exp(rows.logits[0]), list(P.values()))


def test_a_bare_label_becomes_a_smoothed_distribution(tmp_path: Path) -> None:
    rest = LABEL_SMOOTHING / 2
    found = shares(aligned(tmp_path, [{"text": "bad", "label": "yes"}]))
    np.testing.assert_allclose(found, [[rest, 1 - LABEL_SMOOTHING, rest]], rtol=1e-5)


def test_the_likeliest_tokens_alone_are_enough(tmp_path: Path) -> None:
    rows = [{"text": "bad", "logprobs": {"yes": -0.1, "no": -2.4}}, {"text": "fine", "probabilities": {"no": 1}}]
    found = shares(aligned(tmp_path, rows))
    assert found[1, 2] < 1e-5 and found[1, 1] == pytest.approx(np.exp(-0.1) / (np.exp(-0.1) + np.exp(-2.4)), abs=1e-4)
    assert found[0, 0] > 0.9999 and np.isfinite(found).all()


def test_a_row_without_probabilities_uses_its_label(tmp_path: Path) -> None:
    rows = [{"text": "fine", "label": "yes", "logits": None}, {"text": "bad", "label": None, "logits": P}]
    answers = aligned(tmp_path, rows)
    assert answers.report.forms == {"label": 1, "logits": 1}
    assert shares(answers)[0].argmax() == 1


def test_whole_numbers_name_classes_of_that_name(tmp_path: Path) -> None:
    path = write(tmp_path, [{"idx": 0, "label": 1}, {"idx": 1, "label": 0.0}])
    rows = read_answers(path, "classes", ("0", "1"), TEXT)
    assert rows.logits.argmax(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize("column", ["value", "label"])
def test_values(tmp_path: Path, column: str) -> None:
    answers = aligned(tmp_path, [{"text": "so so", column: 2.5}, {"text": "fine", column: "4"}], kind="values")
    assert answers.idx.tolist() == [10, 12] and answers.logits.tolist() == [[4.0], [2.5]]


def test_pairs_are_matched_by_both_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path, [{"text_a": "x", "text_b": None, "label": "yes"}, {"text_a": "x", "text_b": "z", "label": "no"}]
    )
    rows = read_answers(path, "classes", LABELS, [("text_a", "text_b")])
    answers = align(rows, [1, 2, 3], [("x", "y"), ("x", "z"), ("x", "")], LABELS)
    assert answers.idx.tolist() == [2, 3] and answers.logits.argmax(axis=1).tolist() == [0, 1]


def test_what_does_not_match_is_counted(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in (
        ("fine", "yes"), ("fine", "yes"), ("bad", "no"), ("bad", "yes"), ("elsewhere", "no"),
    )]  # fmt: skip
    answers = aligned(tmp_path, rows)
    report = answers.report
    assert (report.rows, report.by, report.examples, report.covered) == (5, "text", 3, 2)
    assert (report.unknown, report.repeated, report.contradicting, report.unnamed) == (1, 1, 1, ("maybe",))
    lines = " ".join(report.lines())
    assert "2 of 3 examples covered" in lines and "contradict" in lines and "'maybe'" in lines
    np.testing.assert_allclose(shares(answers)[1, 0], shares(answers)[1, 1])  # a vote of one against one


def test_examples_with_one_text_have_one_answer(tmp_path: Path) -> None:
    rows = read(tmp_path, [{"text": "fine", "label": "yes"}])
    assert align(rows, [4, 9], [("fine",), ("fine",)], LABELS).idx.tolist() == [4, 9]


def test_an_id_of_the_users_own_does_not_matter_beside_the_text(tmp_path: Path) -> None:
    assert aligned(tmp_path, [{"id": "ticket-7", "text": "bad", "label": "no"}]).idx.tolist() == [11]
    assert aligned(tmp_path, [{"id": 12, "label": "no"}]).idx.tolist() == [12]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "fine", "label": "perhaps"}], ["line 1", "'perhaps' is not a class", "no, yes, maybe"]),
        ([{"text": "fine", "label": "mayby"}], ["did you mean 'maybe'?"]),
        ([{"text": "fine", "label": 1}], ["'1' is not a class"]),
        ([{"text": "fine", "label": None}], ["line 1", "no label"]),
        ([{"text": "fine", "label": ["yes"]}], ["a list"]),
        ([{"text": "fine", "probabilities": {"no": 0.5, "yes": 0.2}}], ["line 1", "sum to 0.7"]),
        ([{"text": "fine", "probabilities": {"no": 70, "yes": 30}}], ["percent"]),
        ([{"text": "fine", "probabilities": {"no": -0.5, "yes": 1.5}}], ["-0.5", "'no'"]),
        ([{"text": "fine", "probabilities": {"no": 0.5, "other": 0.5}}], ["'other' is not a class"]),
        ([{"text": "fine", "probabilities": [0.5, 0.5]}], ["a list", "for every class"]),
        ([{"text": "fine", "probabilities": "yes"}], ["not a JSON object"]),
        ([{"text": "fine", "probabilities": {"no": float("nan"), "yes": 1}}], ["line 1", "'no'", "nan"]),
        ([{"text": "fine", "logits": {"no": "x", "yes": 1, "maybe": 0}}], ["logits of 'no'", "'x'"]),
        ([{"text": "fine", "logits": {"no": 1e39, "yes": 1, "maybe": 0}}], ["logits of 'no'", "1e+39"]),
        ([{"text": "fine", "logits": {}}], ["line 1: no answer"]),
        ([{"text": "fine", "logit_0": 1, "logit_1": 2}], ["'logit_0'", "no class of the task"]),
        ([{"text": "fine", "answer": "yes"}], ["has no answers", "'label'", "it has text, answer"]),
        ([{"sentence": "fine", "label": "yes"}], ["names no examples", "'idx'", "it has sentence, label"]),
        ([{"idx": "seven", "label": "yes"}], ["line 1", "'seven'"]),
        ([{"idx": 10, "label": "yes"}, {"idx": 10, "label": "no"}], ["id 10 occurs twice", "line 1 and line 2"]),
        ([{"idx": 10, "text": "bad", "label": "yes"}], ["example 10", "another text"]),
        ([{"text": "FINE ", "label": "yes"}], ["none of its 1 texts", "1 would be"]),
        ([{"idx": 7, "label": "yes"}], ["none of its 1 ids"]),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, rows: list[dict[str, Any]], said: list[str]) -> None:
    line = refusal(tmp_path, rows)
    assert all(part in line for part in said), line


def test_an_id_that_is_repeated_with_the_same_answer_is_counted(tmp_path: Path) -> None:
    report = aligned(tmp_path, [{"idx": 10, "label": "yes"}] * 2).report
    assert (report.covered, report.repeated, report.contradicting) == (1, 1, 0)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("text,label\n")
    with pytest.raises(UserError, match="no rows"):
        read_answers(tmp_path / "answers.csv", "classes", LABELS, TEXT)
    (tmp_path / "answers.jsonl").write_text("")
    with pytest.raises(UserError, match="is empty"):
        read_answers(tmp_path / "answers.jsonl", "classes", LABELS, TEXT)


@pytest.mark.parametrize("content", ["text;label\nfine;yes\n", '"text";"label"\n"fine";"yes"\n'])
def test_a_file_separated_otherwise_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "llm.csv").write_text(content)
    with pytest.raises(UserError, match="separated by semicolons"):
        read_answers(tmp_path / "llm.csv", "classes", ("no", "yes"), [("text",)])
