"""Answers of a file matched with examples, and what does not match, counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import softmax

from internal_kd.data.cells import shown
from internal_kd.errors import UserError

# What identifies an example: its id, or its one or two texts.
Key = int | tuple[str, ...]

_SAME = 1e-6


@dataclass(frozen=True)
class AnswerRows:
    """A file of answers as read.

    Attributes:
        keys: which example each row is about, (rows,).
        texts: the texts of each row, where the file has them; else empty.
        places: where each row is, for error lines.
        logits: (rows, outputs), float64: logits, logarithms of probabilities, or values.
        forms: rows by form: logits, probabilities, label or value.
        named: the classes that at least one row names.
        repairs: what was repaired or left out, by rule, one line each.
    """

    path: Path
    by: str
    keys: list[Key]
    texts: list[tuple[str, ...]]
    places: list[str]
    logits: np.ndarray
    forms: dict[str, int]
    named: frozenset[str]
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnswersReport:
    """How a file of answers fits a task.

    Attributes:
        rows: rows of the file.
        by: whether rows were matched by "id" or by "text".
        forms: rows by form.
        examples: examples that were to be answered.
        covered: those that have an answer.
        unknown: rows about no example of the task.
        repeated: rows that say again what an earlier row says.
        contradicting: texts that rows answer differently; their answers were averaged.
        unnamed: classes of the task that no row names.
        repairs: what was repaired or left out, by rule, one line each.
    """

    rows: int
    by: str
    forms: dict[str, int]
    examples: int
    covered: int
    unknown: int
    repeated: int
    contradicting: int
    unnamed: tuple[str, ...]
    repairs: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a user should know, one line each; the first is always there."""
        forms = " and ".join(f"{count} with {form}" for form, count in self.forms.items())
        found = [
            f"{self.rows} answers ({forms}), matched by {self.by}: {self.covered} of {self.examples} examples covered"
        ]
        if self.covered < self.examples:
            found.append(f"examples without an answer, not trained on: {self.examples - self.covered}")
        if self.unknown:
            found.append(f"rows about no example of the task: {self.unknown}")
        if self.contradicting:
            found.append(f"texts whose rows contradict each other, their mean is taken: {self.contradicting}")
        if self.repeated:
            found.append(f"rows that repeat an earlier one: {self.repeated}")
        if self.unnamed:
            found.append(f"no row names {shown(map(repr, self.unnamed), 6)}")
        found += self.repairs
        return found


@dataclass(frozen=True)
class FileAnswers:
    """Answers by id of example, of tags of word: ``idx`` (answers,) int64, ascending; ``logits`` (answers, outputs)."""

    idx: np.ndarray
    logits: np.ndarray
    report: AnswersReport = field(compare=False)


def align(rows: AnswerRows, idx: Sequence[int], texts: Sequence[tuple[str, ...]], labels: Sequence[str]) -> FileAnswers:
    """Match answers with examples, by id or by exact text.

    ``idx`` and ``texts`` are the examples' ids and their one or two texts; ``labels`` is empty for values. Rows that
    answer a text differently are averaged: their probabilities, or their values.

    Raises:
        UserError: no example has an answer, or a row's id and text belong to different examples.
    """
    if rows.by == "id" and rows.texts:
        _refuse_other_texts(rows, dict(zip(idx, texts, strict=True)))
    by_key: dict[Key, list[int]] = {}
    for number, key in enumerate(rows.keys):
        by_key.setdefault(key, []).append(number)
    examples: list[tuple[int, Key]] = list(zip(idx, idx if rows.by == "id" else texts, strict=True))
    covered = sorted((example, by_key[key]) for example, key in examples if key in by_key)
    if not covered:
        raise UserError(_nothing_matches(rows, examples))
    known = {key for _, key in examples}
    groups = [numbers for numbers in by_key.values() if len(numbers) > 1]
    differing = sum(not alike(rows.logits[numbers]) for numbers in groups)
    report = AnswersReport(
        rows=len(rows.keys),
        by=rows.by,
        forms=rows.forms,
        examples=len(examples),
        covered=len(covered),
        unknown=sum(key not in known for key in rows.keys),
        repeated=sum(_repeats(rows.logits[numbers]) for numbers in groups),
        contradicting=differing,
        unnamed=tuple(label for label in labels if label not in rows.named),
        repairs=rows.repairs,
    )
    answers = np.array([mean_of_votes(rows.logits[numbers], classes=bool(labels)) for _, numbers in covered])
    return FileAnswers(np.array([example for example, _ in covered], np.int64), answers.astype(np.float32), report)


def alike(logits: np.ndarray) -> bool:
    """Whether rows (rows, outputs) give the same answer."""
    return bool((np.abs(logits - logits[0]) <= _SAME).all())


def _repeats(logits: np.ndarray) -> int:
    """How many of these rows repeat an earlier one."""
    return len(logits) - len(np.unique(np.round(logits, 5), axis=0))


def mean_of_votes(logits: np.ndarray, *, classes: bool = True) -> np.ndarray:
    """Return what several answers (votes, ..., outputs) say together: logarithms of their mean probabilities.

    Answers that are alike are taken as they are; values are averaged.
    """
    if len(logits) == 1 or alike(logits):
        return logits[0]
    if not classes:
        return logits.mean(axis=0)
    return np.log(softmax(logits, axis=-1).mean(axis=0))


def _refuse_other_texts(rows: AnswerRows, texts: Mapping[int, tuple[str, ...]]) -> None:
    for key, text, place in zip(rows.keys, rows.texts, rows.places, strict=True):
        expected = texts.get(key) if isinstance(key, int) else None
        if expected is not None and [one.strip() for one in expected] != [one.strip() for one in text]:
            raise UserError(
                f"{rows.path} {place}: example {key} of the task has another text ({expected[0][:40]!r}, not "
                f"{text[0][:40]!r}); give the ids of train, or leave 'idx' out so that rows are matched by text"
            )


def _nothing_matches(rows: AnswerRows, examples: Sequence[tuple[int, Key]]) -> str:
    what = "ids" if rows.by == "id" else "texts"
    line = f"{rows.path}: none of its {len(rows.keys)} {what} is one of the task's {len(examples)} training examples"
    if rows.by == "id":
        return f"{line} ({rows.keys[0]}, ...): give the ids that the task's Parquet files have, or the texts"
    known = {_folded(key) for _, key in examples}
    near = sum(_folded(key) in known for key in rows.keys)
    hint = f"; {near} would be, but for capitals and spaces" if near else ""
    return f"{line}{hint}: give the texts exactly as they are in the task"


def _folded(key: Key) -> str:
    return " ".join(" ".join(key).lower().split()) if isinstance(key, tuple) else str(key)
