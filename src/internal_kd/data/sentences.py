"""Sentences with tags, from every form that people and language models give them.

- a table of words (word_tables.py);
- JSON Lines or Parquet with a list of tokens and a list of tags; tags may be numbers where the file names them, as the
  hub's Parquet files do;
- JSON Lines with a text and a list of spans: ``start``, ``end`` (characters, the end excluded) and ``type`` (or
  ``label``, ``tag``); or of entities, ``text`` and ``type``, which are looked for in the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from internal_kd.data.cells import named_type, text_value, unicode_value
from internal_kd.data.labels import stored_names
from internal_kd.data.repairs import Repairs
from internal_kd.data.tables import columns_of, rows_of, shown
from internal_kd.data.word_tables import ENDINGS, read_table
from internal_kd.errors import UserError
from internal_kd.tasks.tags import Span, split_tag, tags_of_spans, to_bio

Occurrences = Literal["all", "first"]
# A run of letters and digits, or of other marks: where a text is cut into words.
_WORD = re.compile(r"\w+|[^\w\s]+")
_LISTS = (list, tuple, np.ndarray)
_TYPE_KEYS = ("type", "label", "tag", "entity_group", "entity")


class Sentence(NamedTuple):
    """A sentence: its text, its words in order, their tags in BIO (None without), and where it is.

    Of an answer that gives numbers, also the logits of every word, (words, tags).
    """

    text: str
    tokens: list[str]
    tags: list[str] | None
    place: str
    logits: np.ndarray | None = None


def read_sentences(
    path: Path,
    text: str,
    label: str,
    *,
    types: Sequence[str] | None,
    repairs: Repairs,
    labelled: bool = True,
    occurrences: Occurrences = "all",
) -> list[Sentence]:
    """Read a file of sentences.

    Args:
        path: a table of words (.conll, .bio, .iob, .tsv, .txt), .jsonl or .parquet.
        text: the column of tokens or of the text; of a table its number, or anything else for the usual.
        label: the column of tags, spans or entities, likewise.
        types: types of entities, where they are known: others are repaired or refused.
        repairs: counts what was repaired.
        labelled: whether there are tags to be read.
        occurrences: whether an entity that is named by its text is marked wherever it stands, or once.

    Raises:
        UserError: the file cannot be read, holds classes instead of tags, or something would have to be repaired.
    """
    if path.suffix.lower() in ENDINGS:
        found = _of_table(path, text, label, types, repairs, labelled)
    elif path.suffix.lower() in (".jsonl", ".parquet"):
        names = stored_names(path, label) if labelled else None
        found = SentenceRows(path, text, label if labelled else None, types, repairs, occurrences, names).read()
    else:
        raise UserError(f"{path}: tags are read from {', '.join(ENDINGS)}, .jsonl or .parquet; convert or rename it")
    sentences = []
    for sentence in found:
        if sentence.tokens:
            sentences.append(sentence)
        else:
            repairs.note("sentence without tokens", sentence.place, sentence.text)
    return sentences


def words_of(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text begin and end.

    Example:
        >>> [text[a:b] for text in ["It's 5 pm."] for a, b in words_of(text)]
        ['It', "'", 's', '5', 'pm', '.']
    """
    return [found.span() for found in _WORD.finditer(text)]


def _of_table(
    path: Path, text: str, label: str, types: Sequence[str] | None, repairs: Repairs, labelled: bool
) -> Iterator[Sentence]:
    numbers = re.compile(r"-?\d+")
    columns = None
    if numbers.fullmatch(text):
        columns = int(text), int(label) if numbers.fullmatch(label) else -1
    for words in read_table(path, columns, types, repairs, labelled=labelled):
        place, tokens = words[0].place, [word.text for word in words]
        tags = _bio([word.tag or "" for word in words], place, repairs) if labelled else None
        yield Sentence(" ".join(tokens), tokens, tags, place)


@dataclass(frozen=True)
class SentenceRows:
    """Rows of a file as sentences: tokens with tags, or a text with spans or entities.

    Attributes:
        text, label: their columns; no ``label`` where there are no tags.
        names: what the file calls tags that are numbers.
    """

    path: Path
    text: str
    label: str | None
    types: Sequence[str] | None
    repairs: Repairs
    occurrences: Occurrences = "all"
    names: Sequence[str] | None = None

    def read(self) -> Iterator[Sentence]:
        """Yield the sentences of the file; errors as ``read_sentences``."""
        if self.label and self.label not in (found := columns_of(self.path)):
            raise UserError(f"{self.path}: no column {self.label!r}; it has {shown(found)}")
        for place, values in rows_of(self.path, [self.text, *([self.label] if self.label else [])]):
            if sentence := self.sentence(values[0], values[1] if self.label else None, place):
                yield sentence

    def sentence(self, content: Any, answer: Any, place: str) -> Sentence | None:
        """Return a row as a sentence, without tags if ``answer`` is None; None for a row that is left out.

        Raises:
            UserError: it is neither tokens nor a text, or something would have to be repaired.
        """
        if isinstance(content, str):
            return self._of_text(unicode_value(content, self.path, place, self.text), answer, place)
        if isinstance(content, _LISTS):
            return self._of_tokens(content, answer, place)
        raise UserError(
            f"{self.path} {place}: column {self.text!r} is {named_type(content)}; give a text or a list of tokens"
        )

    def _of_text(self, text: str, answer: Any, place: str) -> Sentence:
        if answer is None:
            return Sentence(text, [text[a:b] for a, b in words_of(text)], None, place)
        return _cut(text, self._entities(text, answer, place), place)

    def _of_tokens(self, content: Iterable[Any], answer: Any, place: str) -> Sentence | None:
        tokens = [text_value(token, self.path, place, self.text).strip() for token in content]
        tags = None
        if answer is not None:
            if not isinstance(answer, _LISTS):
                raise UserError(
                    f"{self.path} {place}: column {self.label!r} is {named_type(answer)}, not a list of tags; for one "
                    "label a text set kind: classes"
                )
            if len(answer) != len(tokens):
                numbers = f"{len(tokens)} tokens, {len(answer)} tags"
                self.repairs.note("tokens and tags differ in number", place, numbers)
                return None
            given = [self._tag(tag, place) for tag, token in zip(answer, tokens, strict=True) if token]
            tags = _bio(given, place, self.repairs)
        tokens = [token for token in tokens if token]
        return Sentence(" ".join(tokens), tokens, tags, place)

    def _tag(self, tag: Any, place: str) -> str:
        if isinstance(tag, int | np.integer) and not isinstance(tag, bool):
            if self.names is None or not 0 <= tag < len(self.names):
                raise UserError(
                    f"{self.path} {place}: tag {tag} is a number that the file does not name; give its name"
                )
            tag = self.names[int(tag)]
        if not isinstance(tag, str):
            raise UserError(f"{self.path} {place}: a tag is {named_type(tag)}; give texts such as 'B-person'")
        tag = unicode_value(tag.strip(), self.path, place, self.label or "")
        parts = split_tag(tag)
        if self.types is None or parts is None or not parts[1] or parts[1] in self.types:
            return tag
        self.repairs.note("unknown type", place, tag)
        return "O"

    def _entities(self, text: str, answer: Any, place: str) -> list[Span]:
        if not isinstance(answer, _LISTS):
            raise UserError(
                f"{self.path} {place}: column {self.label!r} is {named_type(answer)}; give a list of spans or "
                "entities, or for one label a text set kind: classes"
            )
        spans: list[Span] = []
        for entry in answer:
            if not isinstance(entry, Mapping):
                raise UserError(
                    f"{self.path} {place}: an entity is {named_type(entry)}; give start, end and type, or text and type"
                )
            if (name := self._type(entry, place)) is not None:
                spans += [(start, end, name) for start, end in self._places(text, entry, name, place)]
        return _without_overlaps(text, spans, place, self.repairs)

    def _type(self, entry: Mapping[str, Any], place: str) -> str | None:
        """Return an entity's type as the task spells it, None for one that the task does not have."""
        given = next((entry[key] for key in _TYPE_KEYS if entry.get(key)), "")
        if not isinstance(given, str | int):
            raise UserError(f"{self.path} {place}: the type of an entity is {named_type(given)}; give a text")
        name = unicode_value(str(given).strip(), self.path, place, self.label or "")
        name = name.partition("-")[2] if split_tag(name) and name != "O" else name
        if not name:
            raise UserError(f"{self.path} {place}: an entity has no type; give `type`")
        if self.types is None or name in self.types:
            return name
        same = next((known for known in self.types if known.casefold() == name.casefold()), None)
        if same is None:
            self.repairs.note("unknown type", place, f"{name} {entry.get('text', '')}")
        return same

    def _places(self, text: str, entry: Mapping[str, Any], name: str, place: str) -> list[tuple[int, int]]:
        """Return where an entity is: as given, or wherever its own text is found."""
        start, end = entry.get("start"), entry.get("end")
        if start is not None and end is not None:
            whole = isinstance(start, int | np.integer) and isinstance(end, int | np.integer)
            if not whole or not 0 <= start < end <= len(text):
                self.repairs.note("span leaves the text", place, f"{start} to {end} of {len(text)}")
                return []
            inner = text[start:end]
            start += len(inner) - len(inner.lstrip())
            return [(int(start), int(start + len(inner.strip())))] if inner.strip() else []
        named = entry.get("text")
        if not isinstance(named, str) or not named.strip():
            raise UserError(f"{self.path} {place}: an entity has neither start and end nor a text")
        found = _found(text, named.strip())
        # Not in the folded text: a letter may become two there, as ß does, and places move.
        if not found and (found := _found(text, named.strip(), re.IGNORECASE)):
            self.repairs.note("entity in other capitals", place, named)
        if not found:
            self.repairs.note("entity not in the text", place, f"{named} ({name})")
        return found[:1] if self.occurrences == "first" else found


def _bio(tags: Sequence[str], place: str, repairs: Repairs) -> list[str]:
    counts: Counter[str] = Counter()
    try:
        made = to_bio(tags, counts)
    except UserError as error:
        raise UserError(f"{repairs.path} {place}: {error}") from None
    for rule, count in counts.items():
        for _ in range(count):
            repairs.note(rule, place, " ".join(tags))
    return made


def _found(text: str, named: str, flags: re.RegexFlag = re.NOFLAG) -> list[tuple[int, int]]:
    """Return where whole words of the text are those named; spaces count alike."""
    pattern = r"\s+".join(map(re.escape, named.split()))
    before = r"(?<!\w)" if named[0].isalnum() else ""
    after = r"(?!\w)" if named[-1].isalnum() else ""
    return [match.span() for match in re.finditer(f"{before}{pattern}{after}", text, flags)]


def _without_overlaps(text: str, spans: list[Span], place: str, repairs: Repairs) -> list[Span]:
    kept: list[Span] = []
    for span in sorted(set(spans), key=lambda span: (span[0] - span[1], span)):
        other = next((other for other in kept if span[0] < other[1] and other[0] < span[1]), None)
        if other is None:
            kept.append(span)
        else:
            repairs.note("spans overlap", place, f"{text[other[0] : other[1]]} / {text[span[0] : span[1]]}")
    return sorted(kept)


def _cut(text: str, spans: Sequence[Span], place: str) -> Sentence:
    """Return a text cut into words, also where an entity begins or ends, with the tags of its entities."""
    edges = {edge for start, end, _ in spans for edge in (start, end)}
    pieces: list[tuple[int, int]] = []
    for start, end in words_of(text):
        cuts = [start, *sorted(edge for edge in edges if start < edge < end), end]
        pieces += pairwise(cuts)
    begins = {start: number for number, (start, _) in enumerate(pieces)}
    ends = {end: number + 1 for number, (_, end) in enumerate(pieces)}
    tags = tags_of_spans([(begins[start], ends[end], name) for start, end, name in spans], len(pieces))
    return Sentence(text, [text[a:b] for a, b in pieces], tags, place)
