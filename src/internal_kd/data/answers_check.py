"""What a file of answers holds, before anybody learns from it: how it fits, what was repaired, what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from internal_kd.data.answer_tags import align_tags, read_tagged_answers
from internal_kd.data.answers_file import read_answers, sentences_of, training_texts
from internal_kd.data.answers_match import AnswersReport, align
from internal_kd.data.examples import TaskOnDisk, text_columns
from internal_kd.data.repairs import Repairs
from internal_kd.data.sentences import Occurrences
from internal_kd.plan.artefacts import Data
from internal_kd.tasks.tags import spans_of

_SHOWN = 10


def check_answers(path: Path, data: Data, task: TaskOnDisk, occurrences: Occurrences = "all") -> list[str]:
    """Return what a file of answers holds for a task, as lines.

    Rows and how they match; how many were repaired by which rule, and left out; the share of each label, and of texts
    with several answers how far those agree; ten examples of each rule and each label.

    Raises:
        UserError: as when it is recorded.
    """
    repairs, examples = Repairs(path), task.info
    shown: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    if examples.kind == "tags":
        answers = read_tagged_answers(path, examples.labels, repairs, occurrences)
        for sentence in answers:
            for start, end, name in spans_of(sentence.tags or ()):
                counts[name] += 1
                shown.setdefault(name, []).append(" ".join(sentence.tokens[start:end]))
        votes = Counter("".join(sentence.tokens) for sentence in answers)
        report = align_tags(path, answers, sentences_of(task), repairs).report
        what = "entities"
    else:
        rows = read_answers(path, examples.kind, examples.labels, text_columns(data, examples.texts), repairs)
        votes = Counter(map(str, rows.keys))
        texts = rows.texts or [(str(key),) for key in rows.keys]
        if examples.labels:
            for text, best in zip(texts, rows.logits.argmax(1).tolist(), strict=True):
                counts[examples.labels[best]] += 1
                shown.setdefault(examples.labels[best], []).append(" / ".join(text))
        report = align(rows, *training_texts(task), examples.labels).report
        what = "answers"
    return [*_facts(report, repairs, votes), *_shares(counts, what), *_examples(repairs, shown)]


def _facts(report: AnswersReport, repairs: Repairs, votes: Counter[str]) -> Iterator[str]:
    yield from report.lines()
    dropped = sum(repairs.dropped.values())
    repaired = sum(repairs.counts.values()) - dropped
    yield f"repaired: {repaired}, left out: {dropped}"
    several = [count for count in votes.values() if count > 1]
    if several:
        agreeing = len(several) - report.contradicting
        yield (
            f"{len(several)} texts have several answers ({np.mean(several):.1f} on average), which agree for "
            f"{100 * agreeing / len(several):.1f} %"
        )


def _shares(counts: Counter[str], what: str) -> Iterator[str]:
    total = sum(counts.values())
    for label, count in counts.most_common():
        yield f"{label}: {count} {what} ({100 * count / total:.1f} %)"


def _examples(repairs: Repairs, shown: dict[str, list[str]]) -> Iterator[str]:
    for title, found in (*repairs.examples.items(), *shown.items()):
        yield f"\n{title}, for example"
        yield from (f"  {' '.join(text.split())[:100]}" for text in list(dict.fromkeys(found))[:_SHOWN])
