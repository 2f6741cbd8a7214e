"""Answers to sentences: tags, entities or numbers of a file, matched with a task's words.

A row is a sentence in a form of sentences.py: words in a table, tokens with tags, a text with spans or entities. Or it
has ``tokens`` and ``logits`` or ``probabilities``, an object with a list for each tag, as long as the sentence. It is
about the sentence of the task that has the same characters, spaces left aside, so how either side cuts words does not
matter; numbers need the task's own words. Several answers to a sentence are votes, and their mean is what a student
learns. A tag has 0.9 of its word, as a label of a class has (answer_forms.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from internal_kd.data.answer_forms import LABEL_SMOOTHING, LEAST_PROBABILITY, SUM_TOLERANCE
from internal_kd.data.answers_match import AnswersReport, FileAnswers, alike, mean_of_votes
from internal_kd.data.cells import named_type, number_in, text_value
from internal_kd.data.repairs import Repairs
from internal_kd.data.sentences import Occurrences, Sentence, read_sentences
from internal_kd.data.tables import columns_of, rows_of, shown
from internal_kd.data.word_tables import ENDINGS
from internal_kd.errors import UserError, nearest
from internal_kd.tasks.tags import spans_of, tags_of_spans, to_bio, types_of, word_id

TOKENS, TEXTS = ("tokens", "words"), ("text", "text_a", "sentence")
LOGITS, PROBABILITIES = "logits", "probabilities"
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
    if path.suffix.lower() in ENDINGS:
        text, label = "", ""
    else:
        found = columns_of(path)
        text, label = _columns(path, found)
        if label in (LOGITS, PROBABILITIES):
            return list(_with_numbers(path, text, label, labels))
    return read_sentences(path, text, label, types=types_of(labels), repairs=repairs, occurrences=occurrences)


def _with_numbers(path: Path, text: str, label: str, labels: Sequence[str]) -> Iterator[Sentence]:
    """Yield sentences with numbers for every tag of every word."""
    for place, (tokens, answer) in rows_of(path, [text, label]):
        if not isinstance(tokens, list):
            raise UserError(f"{path} {place}: column {text!r} is {named_type(tokens)}; give a list of tokens")
        words = [text_value(token, path, place, text) for token in tokens]
        if not isinstance(answer, Mapping) or not answer:
            raise UserError(
                f"{path} {place}: column {label!r} is {named_type(answer)}; give an object of lists, by tag"
            )
        if unknown := [tag for tag in answer if tag not in labels]:
            raise UserError(
                f"{path} {place}: {unknown[0][:40]!r} is not a tag of the task ({shown(labels)})"
                f"{nearest(unknown[0], list(labels))}; correct or remove it"
            )
        if odd := [tag for tag, own in answer.items() if not isinstance(own, list) or len(own) != len(words)]:
            raise UserError(f"{path} {place}: {label} of {odd[0]!r} are not {len(words)} numbers, one for each word")
        logits = _logits_of(answer, label, labels, f"{path} {place}")
        best = [labels[number] for number in logits.argmax(1)]
        yield Sentence(" ".join(words), words, to_bio(best), place, logits)


def _logits_of(answer: Mapping[str, Any], label: str, labels: Sequence[str], where: str) -> np.ndarray:
    """Return the logits of a sentence's words, (words, tags); a tag that is not named is very unlikely."""
    given = np.array([[number_in(number) for number in answer[tag]] for tag in labels if tag in answer]).T
    if np.isnan(given).any():
        raise UserError(f"{where}: {label} with something that is not a finite number; correct or remove the row")
    if label == LOGITS and len(answer) == len(labels):
        return given
    if label == LOGITS:
        given = softmax(given, axis=1)
    totals = given.sum(1)
    if len(totals) and (given.min() < -SUM_TOLERANCE or np.abs(totals - 1).max() > SUM_TOLERANCE + 1e-9):
        raise UserError(f"{where}: probabilities of a word sum to {totals[np.abs(totals - 1).argmax()]:g}, not 1")
    shares = np.zeros((len(given), len(labels)))
    shares[:, [place for place, tag in enumerate(labels) if tag in answer]] = given / totals[:, None]
    return np.log(np.maximum(shares, LEAST_PROBABILITY))


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
        found = [_logits(answer, tokens, column, repairs) for answer in votes[key]]
        usable = np.array([one for one in found if one is not None])
        if not len(usable):
            continue
        covered += 1
        contradicting += not alike(usable)
        logits.append(mean_of_votes(usable))
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
        forms=dict(Counter("tags" if answer.logits is None else "logits" for answer in answers)),
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


def _columns(path: Path, found: Sequence[str]) -> tuple[str, str]:
    for texts, answers in ((TOKENS, (LOGITS, PROBABILITIES, *TAGS)), (TEXTS, ENTITIES)):
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


def _logits(answer: Sentence, tokens: Sequence[str], column: Mapping[str, int], repairs: Repairs) -> np.ndarray | None:
    """Return what an answer says of the words as the task cuts them, (words, tags); None: it cannot be used."""
    if answer.logits is not None:
        if list(tokens) != answer.tokens:
            repairs.note("numbers for other words", answer.place, answer.text)
            return None
        return answer.logits
    shares = np.full((len(tokens), len(column)), LABEL_SMOOTHING / (len(column) - 1))
    said = [column[tag] for tag in _retagged(answer, tokens, repairs)]
    shares[np.arange(len(tokens)), said] = 1 - LABEL_SMOOTHING
    return np.log(shares)


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
