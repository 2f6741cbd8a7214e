"""What a grammar is: phenomena, each a numbered space of minimal pairs.

A phenomenon lists its slots (the words that may vary) and a function that turns one choice per slot into two
examples that differ as little as possible and carry opposite labels. Frames are numbered by mixed radix, so a sample
without repetition is a sample of integers: exact sizes are known beforehand and no space is ever walked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Example:
    """One labelled example: ``text_b`` is None for single sentences, ``label`` an index into the label names."""

    idx: int
    text_a: str
    text_b: str | None
    label: int
    phenomenon: str


class Text(NamedTuple):
    """One sentence, or a pair of sentences."""

    a: str
    b: str | None = None


class Twins(NamedTuple):
    """The two texts of a minimal pair, at the index of their label."""

    label_0: Text
    label_1: Text


@dataclass(frozen=True)
class Phenomenon:
    """One contrast of a grammar.

    ``build(rng, *values)`` makes the twins from one value per slot. It must give different texts for different
    values; ``rng`` is for free choices, such as which of two wrong forms to show.
    """

    name: str
    slots: tuple[Sequence[Any], ...]
    build: Callable[..., Twins]

    @property
    def size(self) -> int:
        """Number of different minimal pairs."""
        return prod(len(slot) for slot in self.slots)

    def twins(self, index: int, rng: Random) -> Twins:
        """Return minimal pair number ``index``, 0 <= index < size."""
        values = []
        for slot in self.slots:
            index, digit = divmod(index, len(slot))
            values.append(slot[digit])
        return self.build(rng, *values)


class Phenomena(list[Phenomenon]):
    """The phenomena of a grammar, in the order of their functions."""

    def over(self, *slots: Sequence[Any]) -> Callable[[Callable[..., Twins]], Callable[..., Twins]]:
        """Make a function the phenomenon of its name, over these slots."""

        def add(build: Callable[..., Twins]) -> Callable[..., Twins]:
            self.append(Phenomenon(build.__name__.strip("_"), slots, build))
            return build

        return add


@dataclass(frozen=True)
class Grammar:
    """A named set of phenomena with the label names of the task it imitates."""

    name: str
    label_names: tuple[str, str]
    phenomena: tuple[Phenomenon, ...]

    @property
    def capacity(self) -> int:
        """Largest number of examples, all splits together, that is sure to come out balanced and without repeats."""
        return len(self.phenomena) * min(phenomenon.size for phenomenon in self.phenomena)


def sentence(*words: str, end: str = ".") -> str:
    """Join words and phrases (empty ones are skipped) into a sentence with a capital letter and a full stop."""
    text = " ".join(word for word in words if word)
    return text[0].upper() + text[1:] + end
