"""Which attention maps are shown, by rule and not by looking at them, and those maps with their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.analysis.attention_rows import Subject, baseline_of
from internal_kd.artefacts import TokenizedTask
from internal_kd.errors import UserError

if TYPE_CHECKING:
    from internal_kd.data.tokens import TokenSplit
    from internal_kd.distillation.attention_maps import Distance

Array = np.ndarray

SHOWN_EXAMPLES = 2
SHOWN_HEADS = 2
# Tokens of an example that shows something and can be read: of single texts, and of pairs.
SINGLE, PAIR = (8, 14), (12, 24)
LONGEST = 40
INTERNAL = "3.3"


@dataclass(frozen=True)
class ShownStudent:
    """A student whose maps are shown."""

    id: str
    title: str
    fingerprint: str


@dataclass(frozen=True)
class ShownExample:
    """One dev example: maps of the shown heads, [head][query][key], the teacher's and each student's.

    ``kl`` holds [student][head] in nats, averaged over the queries of this example.
    """

    idx: int
    tokens: list[str]
    teacher: list[list[list[float]]]
    students: list[list[list[list[float]]]]
    kl: list[list[float]]


@dataclass(frozen=True)
class ShownTask:
    """What is shown of a task; ``problem`` says why nothing is. Layers and heads count from 1."""

    student_layer: int = 0
    teacher_layer: int = 0
    heads: tuple[int, ...] = ()
    students: tuple[ShownStudent, ...] = ()
    examples: tuple[ShownExample, ...] = ()
    lengths: tuple[int, int] = SINGLE
    problem: str = ""


def choose_examples(tokens: TokenizedTask, split: TokenSplit, positions: Array) -> list[int]:
    """Return which of the measured positions are shown: the lowest ids among those that are neither short nor long.

    Where too few are, the nearest in length; none of more than 40 tokens.
    """
    low, high = lengths_shown(tokens)
    lengths = split.lengths[positions]
    off = np.maximum(low - lengths, 0) + np.maximum(lengths - high, 0)
    order = np.lexsort((np.asarray(split.idx)[positions], off))
    return [int(positions[at]) for at in order[:SHOWN_EXAMPLES] if lengths[at] <= LONGEST]


def lengths_shown(tokens: TokenizedTask) -> tuple[int, int]:
    """Return the lengths of examples that are shown, in tokens, of a task of single texts or of pairs."""
    from internal_kd.data.tasks_on_disk import read_task

    return PAIR if read_task(tokens.data).text_columns == 2 else SINGLE


def show_task(
    tokens: TokenizedTask,
    subjects: Sequence[Subject],
    distances: Sequence[Distance | None],
    split: TokenSplit,
    positions: Array,
    examples: Sequence[int],
) -> ShownTask:
    """Return the maps to show: of the heads of the highest matched layer in which the first student is furthest off."""
    shown = [(subjects[n], found) for n in _students_shown(subjects, distances) if (found := distances[n]) is not None]
    if not shown:
        return ShownTask(problem="no student could be measured")
    if not examples:
        return ShownTask(problem=f"no dev example of at most {LONGEST} tokens was measured")
    try:
        texts = _texts(tokens, [split.ids(position).tolist() for position in examples])
    except UserError as error:
        return ShownTask(problem=str(error))
    first, of_first = shown[0]
    heads = np.argsort(-of_first.kl[:, -1].mean(0), kind="stable")[:SHOWN_HEADS]
    rows = {int(position): row for row, position in enumerate(positions)}
    return ShownTask(
        student_layer=len(first.layers),
        teacher_layer=first.layers[-1],
        heads=tuple(int(head) + 1 for head in heads),
        students=tuple(ShownStudent(s.row.id, s.row.title, s.row.student) for s, _ in shown),
        examples=tuple(
            ShownExample(
                int(split.idx[position]),
                text,
                _rounded(of_first.teacher_maps[position][heads]),
                [_rounded(found.maps[position][heads]) for _, found in shown],
                [_rounded(found.kl[rows[position], -1, heads]) for _, found in shown],
            )
            for position, text in zip(examples, texts, strict=True)
        ),
        lengths=lengths_shown(tokens),
    )


def _students_shown(subjects: Sequence[Subject], distances: Sequence[Distance | None]) -> list[int]:
    """Standard distillation, and row 3.3 or else the first method with attention KL matched with the same layers."""
    measured = [n for n, found in enumerate(distances) if found is not None and subjects[n].student]
    standard = next((n for n in [baseline_of(subjects)] if n in measured), None)
    matched = [
        n
        for n in measured
        if "attention_kl" in _terms(subjects[n])
        and (standard is None or subjects[n].layers[-1] == subjects[standard].layers[-1])
    ]
    preferred = [n for n in matched if subjects[n].row.id == INTERNAL]
    internal = next(iter([*preferred, *matched]), None)
    return [n for n in (standard, internal) if n is not None] or measured[:1]


def _terms(subject: Subject) -> tuple[str, ...]:
    return subject.student.method.layer_terms if subject.student else ()


def _texts(tokens: TokenizedTask, ids: Sequence[list[int]]) -> list[list[str]]:
    from internal_kd.data.tokenizers import load_tokenizer, token_texts

    tokenizer = load_tokenizer(tokens.encoder.folder, tokens.encoder.name, tokens.max_length).tokenizer
    return [token_texts(tokenizer, example) for example in ids]


def _rounded(values: Array) -> list:
    return np.round(values.astype(float), 5).tolist()
