"""Tags of a sentence: BIO as numbers, other schemes converted, and spans of entities counted.

A task's tags have one order: ``O``, then ``B-`` and ``I-`` of every type, types sorted. So 0 is outside, an odd number
begins type (k - 1) // 2 and the even one after it continues it: the numbers alone say what a name would. -1 pads a
matrix of sentences (N, longest) on the right. Importing this module imports no numpy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from internal_kd.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray"
OUTSIDE = "O"
PADDING = -1
# A sentence has fewer words than this many bits can count, a split fewer sentences than the other.
_WORD_BITS, _WINDOW_BIT = 20, 32
# BILOU and BIOES say the same with other letters: last or end, unit or single.
_PREFIXES = {"B": "B", "I": "I", "L": "I", "E": "I", "U": "B", "S": "B", "M": "I"}
_TAG = re.compile(r"([BILOUESM])[-_](\S.*)")

# An entity: its first token, the one after its last, its type.
Span = tuple[int, int, str]


def tag_names(types: Iterable[str]) -> tuple[str, ...]:
    """Return a task's tags in their order.

    Example:
        >>> tag_names(["person", "group"])
        ('O', 'B-group', 'I-group', 'B-person', 'I-person')
    """
    return (OUTSIDE, *(f"{prefix}-{name}" for name in sorted(set(types)) for prefix in "BI"))


def types_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the types of a task's tags, in their order.

    Raises:
        UserError: the tags are not those of ``tag_names``.
    """
    types = tuple(label[2:] for label in labels[1::2])
    if tuple(labels) != tag_names(types):
        raise UserError(
            f"tags {', '.join(labels[:5])} are not O, B-<type>, I-<type>, ... with both of every type, types sorted"
        )
    return types


def split_tag(tag: str) -> tuple[str, str] | None:
    """Return a tag's letter and type, ("O", "") for outside, or None if it is not a tag of a known scheme.

    Example:
        >>> split_tag("B-person"), split_tag("U-person"), split_tag("person")
        (('B', 'person'), ('U', 'person'), None)
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _TAG.fullmatch(tag)
    return (found[1], found[2]) if found else None


def to_bio(tags: Sequence[str], counts: Counter[str] | None = None) -> list[str]:
    """Return the tags of one sentence in BIO: every entity begins with B-.

    IOB1 (an entity begins with I- unless it touches one of its type before it), BIO and BILOU or BIOES are told apart
    by their letters alone, since in all of them an I- after another type, or after O, begins an entity. ``counts``
    counts such tags by the rule "I- without B-", and the other letters by "BILOU letters".

    Raises:
        UserError: a tag is of no scheme.

    Example:
        >>> to_bio(["I-LOC", "I-LOC", "B-LOC", "O", "U-PER"])
        ['B-LOC', 'I-LOC', 'B-LOC', 'O', 'B-PER']
    """
    counts = Counter() if counts is None else counts
    made: list[str] = []
    before = ""  # the type of an entity that may go on
    for tag in tags:
        parts = split_tag(tag)
        if parts is None:
            raise UserError(f"tag {tag[:40]!r} is not O or a letter and a type, such as B-person")
        letter, name = parts
        if letter == OUTSIDE:
            made.append(OUTSIDE)
            before = ""
            continue
        counts["BILOU letters"] += letter in "LEUSM"
        begins = _PREFIXES[letter] == "B" or name != before
        counts["I- without B-"] += begins and _PREFIXES[letter] == "I"
        made.append(f"{'B' if begins else 'I'}-{name}")
        before = "" if letter in "LEUS" else name
    return made


def tags_of_spans(spans: Iterable[Span], length: int) -> list[str]:
    """Return the BIO tags of a sentence of ``length`` tokens with these entities, none of which overlap."""
    tags = [OUTSIDE] * length
    for start, end, name in spans:
        tags[start:end] = [f"B-{name}", *[f"I-{name}"] * (end - start - 1)]
    return tags


def spans_of(tags: Sequence[str]) -> list[Span]:
    """Return the entities of a sentence in BIO, as seqeval and conlleval read them: I- without B- begins one.

    Example:
        >>> spans_of(["B-LOC", "I-LOC", "O", "I-PER"])
        [(0, 2, 'LOC'), (3, 4, 'PER')]
    """
    found: list[Span] = []
    for place, tag in enumerate(to_bio(tags)):
        if tag == OUTSIDE:
            continue
        if tag.startswith("I-"):
            start, _, name = found.pop()
            found.append((start, place + 1, name))
        else:
            found.append((place, place + 1, tag[2:]))
    return found


def word_id(sentence: Array, word: Array) -> Array:
    """Return the id of a word: of its sentence (or a window of it) and its number there, from 0; int64.

    A window's id is its sentence's, with the window's number above bit 32, so that the first window has the sentence's.

    Example:
        >>> sentence_and_word(word_id(np.array([7]), np.array([3])))
        (array([7]), array([3]))
    """
    return ((sentence & (2**_WINDOW_BIT - 1)) << _WORD_BITS) | word


def sentence_and_word(ids: Array) -> tuple[Array, Array]:
    """Return the sentences and the words that ids of ``word_id`` stand for."""
    return ids >> _WORD_BITS, ids & (2**_WORD_BITS - 1)


def window_id(sentence: int, window: int) -> int:
    """Return the id of a window of a sentence, both counted from 0."""
    return sentence | window << _WINDOW_BIT


def by_sentence(words: Array, values: Array) -> Array:
    """Return values of words (R,) as a matrix of sentences (N, longest), sentences ascending, padded with -1.

    Args:
        words: their ids, in any order.
        values: tags, (R,).
    """
    import numpy as np

    order = np.argsort(words, kind="stable")
    _, lengths = np.unique(sentence_and_word(words)[0], return_counts=True)
    made = np.full((len(lengths), int(lengths.max())), PADDING, np.int64)
    made[np.arange(made.shape[1]) < lengths[:, None]] = values[order]
    return made


def span_counts(labels: Array, predicted: Array, classes: int) -> Array:
    """Return for every sentence and type the entities that are right, predicted and gold: (N, 3 * types).

    An entity is right if first token, last token and type are. What is not a tag (-1) is outside; what is predicted
    where the label is none does not count.
    """
    import numpy as np

    predicted = np.where(labels < 0, PADDING, predicted)
    types = max(1, (classes - 1) // 2)
    of_gold, of_found = _Spans(labels), _Spans(predicted)
    right = of_gold.starts & of_found.starts & (of_gold.types == of_found.types) & (of_gold.ends == of_found.ends)
    counts = np.zeros((len(labels), 3, types))
    for column, (starts, kinds) in enumerate(
        ((right, of_gold.types), (of_found.starts, of_found.types), (of_gold.starts, of_gold.types))
    ):
        sentence, place = np.nonzero(starts)
        np.add.at(counts[:, column], (sentence, kinds[sentence, place]), 1)
    return counts.reshape(len(labels), 3 * types)


class _Spans:
    """Where entities of a matrix of tags start, where each of them ends, and their types, (N, L) each."""

    def __init__(self, tags: Array) -> None:
        import numpy as np

        inside = tags > 0
        self.types = np.where(inside, (tags - 1) // 2, -1)
        before = np.pad(self.types, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
        self.starts = inside & ((tags % 2 == 1) | (self.types != before))
        # The last token of the entity that a token belongs to: the first at or after it that the next does not go on.
        after = np.pad(self.types, ((0, 0), (0, 1)), constant_values=-1)[:, 1:]
        begins_after = np.pad(self.starts, ((0, 0), (0, 1)))[:, 1:]
        last = ~inside | begins_after | (after != self.types)
        places = np.where(last, np.arange(tags.shape[1]), tags.shape[1])
        self.ends = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]
