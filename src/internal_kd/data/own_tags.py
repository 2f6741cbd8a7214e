"""Your own sentences with tags as a task: files of words, of tokens and tags, or of texts and spans.

Sentences are counted from 0 in the order of their file, and that number is the example's id. A type of entity is
learned from the training file; one that only another split has is refused unless ``labels`` lists it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from internal_kd.data.answer_tags import TEXTS, TOKENS
from internal_kd.data.examples import NO_CLASS, Examples, FetchedTask, own_task
from internal_kd.data.hub import files_of_splits
from internal_kd.data.repairs import Repairs
from internal_kd.data.sentences import Sentence, read_sentences
from internal_kd.data.tables import columns_of, shown
from internal_kd.data.word_tables import ENDINGS
from internal_kd.errors import UserError, nearest
from internal_kd.params.data import FilesEntry, SplitParams
from internal_kd.plan.artefacts import Data
from internal_kd.tasks.tags import spans_of, tag_names


def fetch_own_tags(data: Data) -> FetchedTask:
    """Read the task of tags that the parameters describe.

    Raises:
        UserError: a file cannot be read, something would have to be repaired and ``cleaned`` is not set, a split has no
            entity, or a type that is not in the training file.
    """
    entry = data.entry
    assert isinstance(entry, FilesEntry)
    types = None if entry.labels is None else tuple(map(str, entry.labels))
    read: dict[str, list[Sentence]] = {}
    repairs: dict[str, Repairs] = {}
    for split, path in files_of_splits(data).items():
        repairs[split] = Repairs(path, asked=entry.cleaned)
        labelled = not split.startswith("test")
        column = entry.text[0]
        read[split] = read_sentences(path, column, entry.label, types=types, repairs=repairs[split], labelled=labelled)
        if not read[split]:
            raise UserError(f"tasks.{data.name}: {path} has no sentence; give a file with some")
    if entry.split is not None:
        read["train"], read["dev"] = divided(read["train"], entry.split)
        if not read["train"]:
            raise UserError(
                f"tasks.{data.name}.split: all sentences would be in dev, because those of a group stay together; give "
                "`by: text`, a smaller share, or a file as `dev`"
            )
    labels = _labels(data, read, types)
    splits = {split: tagged_examples(sentences, labels) for split, sentences in read.items()}
    splits |= {split: replace(splits[split], dropped=found.dropped) for split, found in repairs.items()}
    return own_task(data, labels, splits, texts=1, warnings=_warnings(read, repairs))


def tagged_examples(sentences: Sequence[Sentence], labels: Sequence[str], first: int = 0) -> Examples:
    """Return sentences as rows: idx (from ``first`` on), text_a, tokens, label (numbers of tags; -1 without tags)."""
    number = {label: place for place, label in enumerate(labels)}
    tags = [
        [NO_CLASS] * len(one.tokens) if one.tags is None else [number[tag] for tag in one.tags] for one in sentences
    ]
    columns = {
        "idx": pa.array(range(first, first + len(sentences)), pa.int64()),
        "text_a": pa.array([one.text for one in sentences], pa.string()),
        "tokens": pa.array([one.tokens for one in sentences], pa.list_(pa.string())),
        "label": pa.array(tags, pa.list_(pa.int64())),
    }
    return Examples(pa.table(columns))


def read_untagged(path: Path, column: str, first: int) -> Examples:
    """Read sentences without tags as further rows; errors as ``read_sentences``.

    They need not have the task's own form: where its ``column`` is missing, tokens or texts under their usual names do.
    """
    if path.suffix.lower() not in ENDINGS:
        found = columns_of(path)
        column = next((name for name in (column, *TOKENS, *TEXTS) if name in found), column)
    repairs = Repairs(path)
    return tagged_examples(read_sentences(path, column, "", types=None, repairs=repairs, labelled=False), (), first)


def divided(sentences: list[Sentence], how: SplitParams) -> tuple[list[Sentence], list[Sentence]]:
    """Divide sentences into train and dev, groups in one piece; the order inside both is that of the file.

    Example:
        >>> train, dev = divided(sentences, SplitParams(dev=0.2, by="first_entity", seed=1))  # doctest: +SKIP
    """
    groups: dict[str, list[int]] = {}
    for number, sentence in enumerate(sentences):
        groups.setdefault(_group(sentence, how.by), []).append(number)
    names = sorted(groups)
    in_dev: set[int] = set()
    for place in np.random.Generator(np.random.PCG64(how.seed)).permutation(len(names)):
        if len(in_dev) >= how.dev * len(sentences):
            break
        in_dev |= set(groups[names[place]])
    train, dev = ([s for n, s in enumerate(sentences) if (n in in_dev) == is_dev] for is_dev in (False, True))
    return train, dev


def _group(sentence: Sentence, by: str) -> str:
    """What sentences of one group share: their text, or what their first entity is called before a bracket."""
    spans = spans_of(sentence.tags or [])
    if by == "text" or not spans:
        return sentence.text.casefold()
    start, end, _ = spans[0]
    called = " ".join(sentence.tokens[start:end]).casefold()
    return called.partition("(")[0].strip(" ,;.") or called


def _labels(data: Data, read: dict[str, list[Sentence]], types: Sequence[str] | None) -> tuple[str, ...]:
    found = {split: _types(sentences) for split, sentences in read.items()}
    for split, names in found.items():
        if not names and not split.startswith("test"):
            raise UserError(f"tasks.{data.name}: {split} has no entity: every tag is O; give sentences with entities")
    known = set(types) if types is not None else found["train"]
    for split, names in found.items():
        if unknown := sorted(names - known):
            where = "those listed" if types is not None else "those in the train file"
            raise UserError(
                f"tasks.{data.name}: {split} has the type {unknown[0]!r}, which is not one of {where} "
                f"({shown(sorted(known))}){nearest(unknown[0], sorted(known))}; list every type under "
                f"tasks.{data.name}.labels"
            )
    return tag_names(known)


def _types(sentences: Sequence[Sentence]) -> set[str]:
    return {tag[2:] for sentence in sentences for tag in sentence.tags or () if tag != "O"}


def _warnings(read: dict[str, list[Sentence]], repairs: dict[str, Repairs]) -> list[str]:
    lines = [f"{split}: {line}" for split, found in repairs.items() for line in found.lines()]
    for split, sentences in read.items():
        if missing := sorted(_types(sentences) - _types(read["train"])):
            lines.append(f"{split}: no training sentence has the type {shown(map(repr, missing), 4)}")
    return lines
