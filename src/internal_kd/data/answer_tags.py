"""Answers to sentences: tags or entities of a file, matched with a task's words.

A row is a sentence in a form of sentences.py: words in a table, tokens with tags, a text with spans or entities. It
is about the sentence of the task that has the same characters, spaces left aside, so how either side cuts words does
not matter. Several answers to a sentence are votes, and their shares are what a student learns. One answer alone has
0.9 of each word, as a label of a class has (answer_forms.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from internal_kd.data.answer_forms import LABEL_SMOOTHING
from internal_kd.data.answers_match import AnswersReport, FileAnswers
from internal_kd.data.repairs import Repairs
from internal_kd.data.sentences import Occurrences, Sentence, read_sentences
from internal_kd.data.tables import columns_of, shown
from internal_kd.data.word_tables import ENDINGS
from internal_kd.errors import UserError
from internal_kd.tasks.tags import spans_of, tags_of_spans, types_of, word_id

TOKENS, TEXTS = ("tokens", "words"), ("text", "text_a", "sentence")
TAGS, ENTITIES = ("tags", "ner_tags", "labels", "label"), ("entities", "spans", "label")


class TaggedTask(NamedTuple):
    """The sentences that are to be answered: ids, words, and the task's tags in their order."""

    idx: Sequence[int]
    tokens: Sequence[Sequence[str]]
    labels: Sequence[str]


def read_tagged_answers(
    path: Path, labels: Sequence[str], repairs: Repairs, occurrences: Occurrences
) -> list[Sentence]:
    """Read a file of answers to sentences; labels are the task's tags.

    Raises:
        UserError: the file cannot be read, has no such columns, or classes in the place of tags.
    """
    text, label = _columns(path)
    return read_sentences(path, text, label, types=types_of(labels), repairs=repairs, occurrences=occurrences)


def align_tags(path: Path, answers: Sequence[Sentence], task: TaggedTask, repairs: Repairs) -> FileAnswers:
    """Match answers with a task's sentences; ``idx`` of the result are ids of words, ascending.

    Raises:
        UserError: no sentence has an answer.
    """
    votes: dict[str, list[Sentence]] = {}
    for answer in answers:
        votes.setdefault(_key(answer.tokens), []).append(answer)
    keys = [_key(tokens) for tokens in task.tokens]
    column = {label: number for number, label in enumerate(task.labels)}
    ids, logits, contradicting = [], [], 0
    covered = 0
    for idx, tokens, key in zip(task.idx, task.tokens, keys, strict=True):
        if key not in votes:
            continue
        covered += 1
        tags = [_retagged(answer, tokens, repairs) for answer in votes[key]]
        contradicting += any(one != tags[0] for one in tags)
        counts = np.zeros((len(tokens), len(column)))
        for one in tags:
            counts[np.arange(len(tokens)), [column[tag] for tag in one]] += 1
        logits.append(_logarithms(counts / len(tags)))
        ids.append(word_id(np.full(len(tokens), idx, np.int64), np.arange(len(tokens))))
    if not covered:
        raise UserError(
            f"{path}: none of its {len(answers)} sentences is one of the task's {len(keys)}: give the texts, or the "
            "words in their order, as they are in the task"
        )
    named = {tag[2:] for answer in answers for tag in answer.tags or () if tag != "O"}
    known = set(keys)
    report = AnswersReport(
        rows=len(answers),
        by="text",
        forms={"tags": len(answers)},
        examples=len(keys),
        covered=covered,
        unknown=sum(len(found) for key, found in votes.items() if key not in known),
        repeated=sum(len(found) - len({tuple(one.tags or ()) for one in found}) for found in votes.values()),
        contradicting=contradicting,
        unnamed=tuple(name for name in types_of(task.labels) if name not in named),
        repairs=tuple(repairs.lines()),
    )
    order = np.argsort(words := np.concatenate(ids), kind="stable")
    return FileAnswers(words[order], np.concatenate(logits)[order].astype(np.float32), report)


def _columns(path: Path) -> tuple[str, str]:
    if path.suffix.lower() in ENDINGS:
        return "", ""
    found = columns_of(path)
    for texts, answers in ((TOKENS, TAGS), (TEXTS, ENTITIES)):
        text = next((name for name in texts if name in found), None)
        label = next((name for name in answers if name in found), None)
        if text and label:
            return text, label
    raise UserError(
        f"{path} has no answers to sentences: it needs 'tokens' and 'tags', or 'text' and 'entities'; it has "
        f"{shown(found)}"
    )


def _key(tokens: Sequence[str]) -> str:
    return "".join("".join(tokens).split())


def _places(tokens: Sequence[str]) -> list[tuple[int, int]]:
    """Where the words begin and end among the characters of the sentence, spaces left aside."""
    ends = np.cumsum([len("".join(token.split())) for token in tokens]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _retagged(answer: Sentence, tokens: Sequence[str], repairs: Repairs) -> list[str]:
    """Return the tags of an answer for the words as the task cuts them."""
    if list(tokens) == answer.tokens:
        return list(answer.tags or ())
    own, given = _places(tokens), _places(answer.tokens)
    spans, taken = [], 0
    for first, last, name in spans_of(answer.tags or ()):
        start, end = given[first][0], given[last - 1][1]
        inside = [number for number, (a, b) in enumerate(own) if a < end and start < b and number >= taken]
        if not inside:
            continue
        if own[inside[0]][0] != start or own[inside[-1]][1] != end:
            repairs.note("span ends inside a word", answer.place, " ".join(answer.tokens[first:last]))
        taken = inside[-1] + 1
        spans.append((inside[0], taken, name))
    return tags_of_spans(spans, len(tokens))


def _logarithms(shares: np.ndarray) -> np.ndarray:
    """Smooth shares of votes as a bare label is: 0.1 of each word is spread over the other tags."""
    others = LABEL_SMOOTHING / (shares.shape[1] - 1)
    return np.log((1 - LABEL_SMOOTHING) * shares + others * (1 - shares))
