"""Texts that occur twice in a task: among its training examples, or in two of its splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# The texts and the labels of a split: a tuple of one or two texts per example.
Split = tuple[Iterable[tuple[str, ...]], Iterable[Any]]


@dataclass(frozen=True)
class _Hashed:
    """A split without its texts: a hash of every example's texts, and one of texts and label together."""

    texts: np.ndarray
    labelled: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


def overlap_warnings(splits: Mapping[str, Split]) -> list[str]:
    """Return which texts the splits share, by split, with counts, one line each.

    Texts are compared without regard to the number of spaces. Labels of ``test`` and ``unlabelled`` are not looked at.

    Example:
        >>> train = ([("a",), ("b",)], [0, 1])
        >>> overlap_warnings({"train": train, "dev": ([("a",), ("c",)], [1, 1])})
        ['1 of 2 dev examples also in train (1 with another label)']
    """
    hashed = {name: _hashed(*split) for name, split in splits.items()}
    lines = _repeated(hashed["train"])
    for name, split in hashed.items():
        if name == "train":
            continue
        lines += _shared(name, split, "train", hashed["train"])
        if name.startswith("test"):
            lines += _shared(name, split, "dev", hashed["dev"])
        elif name != "unlabelled" and "unlabelled" in hashed:
            lines += _answered(name, hashed["unlabelled"], split)
    return lines


def _hashed(texts: Iterable[tuple[str, ...]], labels: Iterable[Any]) -> _Hashed:
    of_texts = [hash(tuple(" ".join(text.split()) for text in example)) for example in texts]
    return _Hashed(np.array(of_texts), np.array([hash(pair) for pair in zip(of_texts, labels, strict=True)]))


def _repeated(train: _Hashed) -> list[str]:
    different = len(np.unique(train.texts))
    if different == len(train):
        return []
    # A text with two labels is two pairs.
    _, first = np.unique(train.labelled, return_index=True)
    contradicting = int((np.unique(train.texts[first], return_counts=True)[1] > 1).sum())
    more = f"; texts with several labels: {contradicting}" if contradicting else ""
    return [f"{len(train) - different} of {len(train)} train examples repeat an earlier text{more}"]


def _shared(name: str, split: _Hashed, other: str, among: _Hashed) -> list[str]:
    found = np.isin(split.texts, among.texts)
    count = int(found.sum())
    if not count:
        return []
    labelled = not name.startswith(("test", "unlabelled"))
    contradicted = int((found & ~np.isin(split.labelled, among.labelled)).sum()) if labelled else 0
    more = f" ({contradicted} with another label)" if contradicted else ""
    every = count == len(split) and name != "unlabelled"
    consequence = f": {name} and {other} are the same texts, so scores are not those on new examples" if every else ""
    return [f"{count} of {len(split)} {name} examples also in {other}{more}{consequence}"]


def _answered(name: str, unlabelled: _Hashed, among: _Hashed) -> list[str]:
    count = int(np.isin(unlabelled.texts, among.texts).sum())
    return [f"{count} of {len(unlabelled)} unlabelled texts also in {name}: students train on them"] if count else []
