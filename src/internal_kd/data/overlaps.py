"""Texts that occur twice in a task: among its training examples, or in two of its splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The texts and the labels of a split: a tuple of one or two texts per example.
Split = tuple[Sequence[tuple[str, ...]], Sequence[Any]]
_Labels = dict[tuple[str, ...], set[Any]]


def overlap_warnings(splits: Mapping[str, Split]) -> list[str]:
    """Return which texts the splits share, with counts, one line each.

    Texts are compared as they are, without spaces around them.

    Args:
        splits: by name; ``train`` is one of them. Labels of ``test`` and ``unlabelled`` are not looked at.

    Example:
        >>> train = ([("a",), ("b",)], [0, 1])
        >>> overlap_warnings({"train": train, "dev": ([("a",), ("c",)], [1, 1])})
        ['1 of 2 dev examples also in train (1 with another label)']
    """
    texts = {name: [tuple(text.strip() for text in example) for example in split[0]] for name, split in splits.items()}
    labels = {name: _labels_of(texts[name], split[1]) for name, split in splits.items()}
    lines = _repeated(len(texts["train"]), labels["train"])
    for name in texts:
        if name == "train":
            continue
        gold = None if name.startswith(("test", "unlabelled")) else splits[name][1]
        lines += _shared(name, texts[name], gold, "train", labels["train"])
        if name.startswith("test"):
            lines += _shared(name, texts[name], None, "dev", labels["dev"])
        elif name != "unlabelled" and "unlabelled" in texts:
            lines += _answered(name, texts["unlabelled"], labels[name])
    return lines


def _labels_of(texts: Sequence[tuple[str, ...]], labels: Iterable[Any]) -> _Labels:
    seen: _Labels = {}
    for text, label in zip(texts, labels, strict=True):
        seen.setdefault(text, set()).add(label)
    return seen


def _repeated(examples: int, train: _Labels) -> list[str]:
    if examples == len(train):
        return []
    contradicting = sum(len(labels) > 1 for labels in train.values())
    more = f"; texts with several labels: {contradicting}" if contradicting else ""
    return [f"{examples - len(train)} of {examples} train examples repeat an earlier text{more}"]


def _shared(
    name: str, texts: Sequence[tuple[str, ...]], gold: Sequence[Any] | None, other: str, among: _Labels
) -> list[str]:
    found = [position for position, text in enumerate(texts) if text in among]
    if not found:
        return []
    contradicted = 0 if gold is None else sum(gold[position] not in among[texts[position]] for position in found)
    more = f" ({contradicted} with another label)" if contradicted else ""
    every = len(found) == len(texts) and name != "unlabelled"
    consequence = f": {name} and {other} are the same texts, so scores are not those on new examples" if every else ""
    return [f"{len(found)} of {len(texts)} {name} examples also in {other}{more}{consequence}"]


def _answered(name: str, unlabelled: Sequence[tuple[str, ...]], among: _Labels) -> list[str]:
    count = sum(text in among for text in unlabelled)
    return [f"{count} of {len(unlabelled)} unlabelled texts also in {name}: students train on them"] if count else []
