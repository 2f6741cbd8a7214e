"""A file of answers, for example of a large language model, aligned with a task's examples.

One row per text, as CSV, TSV, JSON Lines or Parquet. Which example a row is about:

- ``idx`` (or ``id``): the example's id. Ids of a user's own files are row numbers from 0; those of ``unlabelled`` go on
  where train ends. If the file has the texts too, both must agree.
- the text, exactly as in the task: in the task's own columns, or ``text``, or ``text_a`` and ``text_b`` for pairs.

What the answer is, the first of these that a row has; classes are always named, never numbered:

- ``logits``: an object by class name, or a column ``logit_<class>`` for every class. ``logprobs`` means the same.
- ``probabilities``: an object by class name, or a column ``probability_<class>`` or ``<class>`` for every class. A
  class that a row does not name has probability 0; less than 1e-6 counts as 1e-6, so that logits are finite.
- ``label``: a class. It becomes a distribution with 0.9 on the class and the rest shared by the others (Szegedy et al.
  2016 smooth gold labels so), because who wrote the file is not always right.
- for a task of values: ``value`` or ``label``, a number.

``answers_match.align`` matches what ``read_answers`` read with examples, and counts what does not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from internal_kd.checksums import check_unchanged
from internal_kd.data.answer_forms import form_of
from internal_kd.data.answer_tags import TaggedTask, align_tags, read_tagged_answers
from internal_kd.data.answers_match import AnswerRows, FileAnswers, Key, align, alike
from internal_kd.data.cells import shown, text_value
from internal_kd.data.examples import TaskOnDisk, read_task, text_columns
from internal_kd.data.repairs import Repairs
from internal_kd.data.sentences import Occurrences
from internal_kd.data.tables import columns_of, rows_of
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Data


def read_answers(
    path: Path, kind: str, labels: Sequence[str], texts: Sequence[tuple[str, ...]], repairs: Repairs | None = None
) -> AnswerRows:
    """Read a file of answers for a task of this kind, "classes" or "values".

    ``texts`` are what the text columns may be called, best first; ``repairs`` counts what was repaired.

    Raises:
        UserError: the file cannot be read; it has no column that names examples, or none with answers; an answer is
            missing, NaN, of an unknown class, or probabilities do not sum to 1; an id occurs twice with different
            answers. The line names the file and the row.
    """
    found = columns_of(path)
    by, key, text = _keys_of(path, found, texts)
    form = form_of(path, found, kind, labels, repairs or Repairs(path))
    required = list(dict.fromkeys([*key, *text]))
    optional = [column for column in form.columns if column not in required]
    position = {column: number for number, column in enumerate([*required, *optional])}
    keys: list[Key] = []
    read_texts: list[tuple[str, ...]] = []
    places: list[str] = []
    logits: list[np.ndarray] = []
    for place, values in rows_of(path, required, optional):
        answer = form.read({name: values[position[name]] for name in form.columns}, place)
        if answer is None:
            continue
        of_text = tuple(
            text_value(values[position[name]], path, place, name, may_be_empty=len(text) == 2) for name in text
        )
        keys.append(_id(values[position[key[0]]], path, place) if by == "id" else of_text)
        if text:
            read_texts.append(of_text)
        places.append(place)
        logits.append(answer)
    if form.unreadable and len(form.unreadable) >= len(keys):
        raise form.unreadable[0]
    if not keys:
        raise UserError(f"{path} has no rows; give a file with answers")
    rows = AnswerRows(
        path, by, keys, read_texts, places, np.array(logits), dict(form.counts), frozenset(form.named),
        tuple(form.repairs.lines()),
    )  # fmt: skip
    if by == "id":
        _refuse_contradicting_ids(rows)
    return rows


def answers_from_file(path: Path, data: Data, sha256: str, occurrences: Occurrences = "all") -> FileAnswers:
    """Read a file of answers and match it with a fetched task's examples of train and, if there are some, unlabelled.

    ``sha256`` is the file's when the study was planned; ``occurrences`` says whether an entity of a task of tags that
    is named by its text is marked wherever it stands, or once.

    Raises:
        UserError: the file was changed; or as ``read_answers`` and ``align``.
    """
    check_unchanged(path, sha256)
    task = read_task(data)
    info = task.info
    if info.kind == "tags":
        repairs = Repairs(path)
        answers = read_tagged_answers(path, info.labels, repairs, occurrences)
        return align_tags(path, answers, sentences_of(task), repairs)
    rows = read_answers(path, info.kind, info.labels, text_columns(data, info.texts))
    return align(rows, *training_texts(task), info.labels)


def training_texts(task: TaskOnDisk) -> tuple[list[int], list[tuple[str, ...]]]:
    """Return ids and texts of train and, if there are some, unlabelled."""
    rows = list(task.texts(task.training))
    return [idx for idx, _ in rows], [texts for _, texts in rows]


def sentences_of(task: TaskOnDisk) -> TaggedTask:
    """Return the sentences of train and, if there are some, unlabelled."""
    idx, tokens = task.columns(("idx", "tokens"), task.training)
    return TaggedTask(idx, tokens, task.info.labels)


def _keys_of(
    path: Path, found: Sequence[str], texts: Sequence[tuple[str, ...]]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return how rows are matched, the columns of the key, and those of the texts."""
    text = next((choice for choice in texts if set(choice) <= set(found)), ())
    if "idx" in found:
        return "id", ("idx",), text
    # A column `id` may be of the user's own numbering; texts are sure.
    if text:
        return "text", text, text
    if "id" in found:
        return "id", ("id",), ()
    names = " or ".join(" and ".join(map(repr, choice)) for choice in texts)
    raise UserError(f"{path} names no examples: it needs a column 'idx', or {names}; it has {shown(found)}")


def _id(value: object, path: Path, place: str) -> int:
    text = "" if value is None else str(value).strip().removesuffix(".0")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise UserError(f"{path} {place}: id {text[:40]!r} is not the whole number of an example; give the text")
    return int(text)


def _refuse_contradicting_ids(rows: AnswerRows) -> None:
    first: dict[Key, int] = {}
    for number, key in enumerate(rows.keys):
        earlier = first.setdefault(key, number)
        if not alike(rows.logits[[earlier, number]]):
            raise UserError(
                f"{rows.path}: id {key} occurs twice with different answers ({rows.places[earlier]} and "
                f"{rows.places[number]}): keep one of them"
            )
