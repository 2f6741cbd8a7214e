"""Tables of words and tags: CoNLL files by number of column, and what language models write word by word.

Sentences are parted by blank lines, or lines of tabs and spaces alone. ``-DOCSTART-`` and lines that begin with ``# ``
are no words. Columns are parted by tabs where a line has one, else by spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from internal_kd.data.cells import unicode_value
from internal_kd.data.file_kinds import check_file_kind
from internal_kd.data.repairs import Repairs
from internal_kd.data.tables import lines_of
from internal_kd.errors import UserError
from internal_kd.tasks.tags import OUTSIDE, split_tag

ENDINGS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".tsv", ".txt")
# Not the joiners, which emoji and some scripts need.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
_BRACKETS = re.compile(r"[(\[{]\s*(O|[BI]-\S+?)\s*[)\]}]")
# What people call the last column where they name it.
_HEADINGS = frozenset(["tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags"])
_GLUED = re.compile(r"(\S*[a-z,.;)])(O|[BI]-[A-Z]+)")


class Word(NamedTuple):
    """A word, its tag as the file has it after repairs (None in a file without tags), and where it is."""

    text: str
    tag: str | None
    place: str


def read_table(
    path: Path, columns: tuple[int, int] | None, types: Sequence[str] | None, repairs: Repairs, *, labelled: bool
) -> Iterator[list[Word]]:
    """Yield the sentences of a table of words.

    ``columns`` are those of word and tag, from 0, or from -1 backwards; None: the last is the tag, the rest the word.
    ``types`` are the types of entities, where they are known; ``labelled`` says whether there are tags to be read.

    Raises:
        UserError: the file cannot be read, a line has too few columns, or something would have to be repaired; or tags
            would be read as words.
    """
    if columns is None and not labelled:
        _refuse_tags(path)
    table = _Table(columns, set(types) if types is not None else _types_in(path), repairs, labelled)
    words: list[Word] = []
    for number, line in _lines(path):
        if not line:
            if words:
                yield words
            words = []
        else:
            place = f"line {number}"
            if number == 1 and "\t" in line and line.split("\t")[-1].strip().lower() in _HEADINGS:
                raise UserError(f"{path} {place} is a header ({line[:60]!r}), and columns have numbers: remove it")
            unicode_value(line, path, place, "the line")
            words += table.words(line, place, words[-1].tag if words else None)
    if words:
        yield words


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are words, and those between sentences as "", with their numbers."""
    check_file_kind(path, expected="text")
    for number, line in lines_of(path):
        if not line.strip():
            yield number, ""
        elif not line.startswith("-DOCSTART-") and not (line.startswith("# ") and "\t" not in line and " " in line[2:]):
            yield number, line


def _types_in(path: Path) -> set[str]:
    parts = (split_tag(line.split()[-1]) for _, line in _lines(path) if line)
    return {part[1] for part in parts if part is not None and part[1]}


def _refuse_tags(path: Path) -> None:
    lines = [line.split() for _, line in _lines(path) if line]
    tagged = [fields for fields in lines if len(fields) > 1 and split_tag(fields[-1]) is not None]
    if len(tagged) * 2 > len(lines):
        raise UserError(
            f"{path}: its lines end in tags ({' '.join(tagged[0])[:60]!r}), which would be words here; remove them, or "
            "give `text: [0]`, the column of the words"
        )


class _Table(NamedTuple):
    """How the lines of a table are read; ``known`` are the types of entities."""

    columns: tuple[int, int] | None
    known: set[str]
    repairs: Repairs
    labelled: bool

    def words(self, line: str, place: str, before: str | None) -> list[Word]:
        """Return the words of a line; ``before`` is the tag of the last one, None where a sentence begins."""
        # A word of gold data stays as it is.
        if self.repairs.asked and (clean := _INVISIBLE.sub("", line)) != line:
            self.repairs.note("zero-width character", place, line)
            line = clean
        # In gold data a space of another kind, such as one that does not break, is part of a word.
        gap = None if self.repairs.asked or self.columns is None else " "
        fields = [part.strip() for part in line.split("\t")] if "\t" in line else list(filter(None, line.split(gap)))
        if self.columns is not None:
            text, tag = self._chosen(fields, place)
        else:
            text, tag = self._parted(" ".join(fields), line, place) if self.labelled else (" ".join(fields), "")
        if not self.labelled:
            return [Word(word, None, place) for word in text.split()]
        if tag and split_tag(tag) is None and tag not in self.known:
            if len(f"{text} {tag}".split()) > 2:
                self.repairs.note("heading", place, f"{text} {tag}")
                return []
            text, tag = f"{text} {tag}", ""
        if not tag:
            self.repairs.note("no tag", place, text)
            tag = OUTSIDE
        tag = self._known(tag, place, before)
        words = list(filter(None, text.split(gap)))
        if len(words) > 1:
            self.repairs.note("several words in a line", place, f"{text} {tag}")
        rest = f"I-{tag[2:]}" if tag != OUTSIDE else tag
        return [Word(word, tag if number == 0 else rest, place) for number, word in enumerate(words)]

    def _chosen(self, fields: Sequence[str], place: str) -> tuple[str, str]:
        assert self.columns is not None
        word, tag = self.columns
        try:
            return fields[word], fields[tag] if self.labelled else ""
        except IndexError:
            raise UserError(
                f"{self.repairs.path} {place}: {len(fields)} columns, and {word} and {tag} are asked for (from 0)"
            ) from None

    def _parted(self, found: str, line: str, place: str) -> tuple[str, str]:
        """Return the words of a line and its tag, "" if there is none."""
        head, _, tail = found.rpartition(" ")
        if unwrapped := _BRACKETS.fullmatch(tail):
            self.repairs.note("brackets around a tag", place, line)
            tail = unwrapped[1]
        if head:
            return head, tail
        if glued := _GLUED.fullmatch(found):
            self.repairs.note("tag glued to the word", place, line)
            return glued[1], glued[2]
        return found, ""

    def _known(self, tag: str, place: str, before: str | None) -> str:
        """Return a tag of a known type."""
        parts = split_tag(tag)
        if parts is None:
            self.repairs.note("type without B- or I-", place, tag)
            goes_on = before is not None and before != OUTSIDE and before[2:] == tag
            return f"{'I' if goes_on else 'B'}-{tag}"
        letter, name = parts
        if letter == OUTSIDE or name in self.known:
            return tag
        begun = [entry for entry in self.known if entry.startswith(name)]
        self.repairs.note("type cut short" if len(begun) == 1 else "unknown type", place, tag)
        return f"{letter}-{begun[0]}" if len(begun) == 1 else OUTSIDE
