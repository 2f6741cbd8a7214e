"""Texts that splits share are counted."""

from __future__ import annotations

from typing import Any

from internal_kd.data.overlaps import Split, overlap_warnings


def split(texts: str, labels: list[Any] | None = None) -> Split:
    """Single texts of one letter each."""
    return [(text,) for text in texts], labels or [0] * len(texts)


def test_splits_without_common_texts_are_silent() -> None:
    assert (
        overlap_warnings({"train": split("abc"), "dev": split("de"), "test": split("fg"), "unlabelled": split("h")})
        == []
    )


def test_a_dev_file_that_is_the_train_file_is_reported_as_such() -> None:
    (line,) = overlap_warnings({"train": split("abc"), "dev": split("abc")})
    assert "3 of 3 dev examples" in line and "same texts" in line


def test_a_dev_file_that_is_a_part_of_the_train_file_is_reported_as_such() -> None:
    (line,) = overlap_warnings({"train": split("abcdef"), "dev": split("ac")})
    assert "2 of 2 dev examples" in line and "not those on new examples" in line


def test_common_texts_are_counted_with_those_labelled_otherwise() -> None:
    (line,) = overlap_warnings({"train": split("abc", [0, 1, 0]), "dev": split("bcx", [0, 0, 0])})
    assert line == "2 of 3 dev examples also in train (1 with another label)"


def test_spaces_do_not_hide_a_text() -> None:
    assert overlap_warnings({"train": ([("a b",)], [0]), "dev": ([("a  b\n",), ("c",)], [0, 0])})
    assert overlap_warnings({"train": ([("a ",), ("b",)], [0, 1]), "dev": ([(" a",), ("c",)], [0, 0])})


def test_a_pair_is_the_same_only_if_both_texts_are() -> None:
    pairs = {"train": ([("a", "b"), ("c", "d")], [0, 1]), "dev": ([("a", "d"), ("b", "a")], [0, 1])}
    assert overlap_warnings(pairs) == []


def test_repeated_training_texts_and_contradicting_labels_are_counted() -> None:
    (line,) = overlap_warnings({"train": split("aabbc", [0, 1, 0, 0, 1]), "dev": split("x")})
    assert line.startswith("2 of 5 train examples repeat") and "several labels: 1" in line


def test_labels_of_a_test_set_are_not_looked_at() -> None:
    lines = overlap_warnings({"train": split("ab"), "dev": split("cd"), "test": split("acx", [-1, -1, -1])})
    assert lines == ["1 of 3 test examples also in train", "1 of 3 test examples also in dev"]


def test_unlabelled_texts_of_the_dev_set_are_reported() -> None:
    lines = overlap_warnings({"train": split("ab"), "dev": split("cd"), "unlabelled": split("aacx", [-1] * 4)})
    assert lines == [
        "1 of 4 unlabelled texts also in dev: students train on them",
        "2 of 4 unlabelled examples also in train",
    ]
