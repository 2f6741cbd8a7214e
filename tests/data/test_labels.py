"""What stands in a label's column and is not a class: missing values, numbers to predict, ids, two spellings."""

from __future__ import annotations

import datetime
import decimal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from internal_kd.data.labels import (
    class_indices,
    class_names,
    constant_warning,
    label_text,
    label_warnings,
    spell_alike,
    target_value,
    value_warnings,
)
from internal_kd.errors import UserError

PATH = Path("train.csv")


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        call(*arguments, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "spelling",
    ["", " ", "nan", "NaN", "NAN", "None", "none", "null", "NULL", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaT", "-", "--",
     "(null)", "-nan", "n.a.", "\\N", "#VALUE!", "undefined"],
)  # fmt: skip
def test_every_spelling_of_missing_is_one_rule(spelling: str) -> None:
    line = refusal(label_text, spelling, PATH, "line 2", "label")
    assert "train.csv line 2: no label" in line and ("labels" in line or not spelling.strip())


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_value_is_missing(value: Any) -> None:
    assert "no label" in refusal(label_text, value, PATH, "row 0", "label")


def test_a_class_that_the_user_listed_is_a_class_whatever_its_name() -> None:
    assert label_text("none", PATH, "line 2", "label", ("none", "racism")) == "none"
    assert "no label" in refusal(label_text, "None", PATH, "line 2", "label", ("none", "racism"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["x", "y"], "a list: several labels"),
        ({"a": 1}, "an object: several labels"),
        (datetime.date(2020, 1, 1), "a date"),
        (b"\0", "a bytes value"),
    ],
)
def test_what_is_not_a_label_is_named_by_its_type(value: Any, said: str) -> None:
    line = refusal(label_text, value, PATH, "row 0", "label")
    assert "not a label but" in line and said in line


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, "1"), (1.0, "1"), (decimal.Decimal("1.00"), "1"), (" pos ", "pos"), (True, "True"), (2.5, "2.5")],
)
def test_numbers_and_words_name_classes(value: Any, expected: str) -> None:
    assert label_text(value, PATH, "row 0", "label") == expected


def test_whole_numbers_have_one_spelling() -> None:
    assert spell_alike(["1.0", "0", "-1.0", "1"]) == ["1", "0", "-1", "1"]
    assert spell_alike(["1.0", "x"]) == ["1.0", "x"]
    assert spell_alike(["1.0", "2"], ("1.0", "2.0")) == ["1.0", "2"]


def names(labels: list[str]) -> tuple[str, ...]:
    return class_names("t", PATH, labels)


@pytest.mark.parametrize(
    "labels",
    [
        ["0.5", "1.0", "2.4"] * 30,
        ["2.4", "4.8"],
        ["1e-3", "2e-3"],
        [str(n / 7) for n in range(50)],
        ["0,5", "1"],
        ["5 %", "7.5%"],
    ],
)
def test_numbers_to_predict_are_refused_with_both_ways_out(labels: list[str]) -> None:
    line = refusal(names, labels)
    assert "numbers to predict" in line and "kind: values" in line and "tasks.t.labels" in line


def test_ids_are_refused() -> None:
    line = refusal(names, [f"ticket-{n}" for n in range(40)])
    assert "look like ids" in line and "40 different in 40 rows" in line and "tasks.t.labels" in line
    line = refusal(names, [str(n) for n in range(40)])
    assert "numbers to predict" in line and "kind: values" in line


def test_whole_numbers_with_few_rows_each_are_numbers_to_predict() -> None:
    line = refusal(names, [str(n * 7 % 100 + 1) for n in range(60)] * 3)
    assert "numbers to predict" in line and "60 different in 180 rows" in line and "tasks.t.labels" in line


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_that_count_the_classes_name_classes(first: int) -> None:
    assert len(names([str(n + first) for n in range(77)] * 5)) == 77


def test_few_rows_with_a_class_each_are_a_task() -> None:
    assert names(["b", "a", "c"]) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("Positive", "positive", "capital letters"),
        ("positive", "positive\u200b", "an invisible character"),
        ("very good", "very  good", "spelling"),
        ("ﬁne", "fine", "spelling"),
        ("01", "1", "spelling"),
        ("é", "e\u0301", "spelling"),
        ("non-toxic", "non\u2011toxic", "spelling"),
        ("1", "True", "spelling"),
    ],
)
def test_two_spellings_of_a_class_are_refused(one: str, other: str, said: str) -> None:
    line = refusal(names, [one, other, other, "else"])
    assert said in line and "tasks.t.labels" in line and "rows" in line


@pytest.mark.parametrize("labels", [["A", "A-", "A+"], ["C", "C#", "C++"], ["+", "x"], ["-1", "1"], ["a_b", "a-b"]])
def test_different_classes_are_not_taken_for_spellings_of_one(labels: list[str]) -> None:
    assert len(names(labels)) == len(labels)


def test_minus_one_beside_other_numbers_is_reported() -> None:
    def warnings(labels: list[str]) -> list[str]:
        return label_warnings(names(labels), Counter(labels), listed=False)

    assert any("'-1' counts as a class (2 rows)" in line for line in warnings(["-1", "0", "1"] * 2))
    assert warnings(["-1", "1"] * 3) == []


def test_a_dev_file_of_minus_ones_is_one_without_labels() -> None:
    line = refusal(class_indices, ["-1"], ["line 2"], ["0", "1"], PATH, "t", listed=False)
    assert "'-1'" in line and "no label" in line


@pytest.mark.parametrize("label", ["['a', 'b']", "[1 0]", "('a', 'b')", "{'a': 1}"])
def test_a_list_written_out_is_refused_like_a_list(label: str) -> None:
    assert "several labels per row" in refusal(label_text, label, PATH, "line 2", "label")
    assert label_text(label, PATH, "line 2", "label", (label,)) == label


def test_labels_made_of_other_labels_are_reported() -> None:
    labels = ["a", "b", "a;b", "c,d"]
    (line,) = label_warnings(names(labels), Counter(labels), listed=False)
    assert "'a;b'" in line and "'c,d'" not in line


def test_a_label_of_the_dev_file_that_only_looks_different_is_named() -> None:
    line = refusal(class_indices, ["YES"], ["line 2"], ["no", "yes"], PATH, "t", listed=False)
    assert "differs from 'yes' only in capital letters" in line


def test_a_dev_set_of_one_label_or_value_is_reported_with_what_cannot_be_computed() -> None:
    (line,) = constant_warning("dev", [3.0, 3.0], ("pearson", "spearman", "mse"), ())
    assert "all 2 dev examples have the value 3: pearson, spearman cannot" in line
    (line,) = constant_warning("dev", [1, 1], ("accuracy",), ("no", "yes"))
    assert "label 'yes'" in line
    assert constant_warning("dev", [1, 0], ("accuracy",), ("no", "yes")) == []


def test_many_whole_numbers_are_reported_as_maybe_values() -> None:
    labels = [str(n % 101) for n in range(1000)]
    found = label_warnings(names(labels), Counter(labels), listed=False)
    assert any("101 classes" in line and "kind: values" in line for line in found)
    assert label_warnings(names(labels), Counter(labels), listed=True) == []


def test_a_class_with_one_example_is_reported_with_the_nearest() -> None:
    labels = ["positive", "negative"] * 15 + ["postive"]
    found = label_warnings(names(labels), Counter(labels), listed=False)
    assert any("'postive' (did you mean 'positive'?)" in line for line in found)


def test_a_listed_class_without_examples_is_reported() -> None:
    assert label_warnings(("a", "b", "c"), Counter("aab"), listed=True) == ["no training example has the label 'c'"]


def test_suspicious_values_are_reported() -> None:
    assert value_warnings([0.5, 1.5, 2.0]) == [] == value_warnings([-1, 0.5, -2])
    (line,) = value_warnings([0, 1, 1])
    assert "two different values (0, 1)" in line and "classes" in line
    (line,) = value_warnings([-1, 0, 3.5, -1])
    assert "2 of 4 values are -1" in line and "no value" in line


@pytest.mark.parametrize("value", [1, 1.5, "2", " 3.5 ", decimal.Decimal("0.1")])
def test_numbers_to_predict_are_numbers(value: Any) -> None:
    assert target_value(value, PATH, "row 0", "score") == float(value)


@pytest.mark.parametrize("value", [True, [1], "one", "1,5", float("inf"), None, ""])
def test_what_is_not_a_number_is_refused_with_its_place(value: Any) -> None:
    assert "train.csv row 0" in refusal(target_value, value, PATH, "row 0", "score")
