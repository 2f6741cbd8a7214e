"""What an objective may need of the models and the task, checked at planning where the facts are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from internal_kd.registry import Registry


@dataclass(frozen=True)
class Facts:
    """What is known of a training when a term is checked; None: not known yet.

    kind: key of the task kinds, as "classes"; outputs: columns of the logits; the others as (student, teacher).
    """

    kind: str | None = None
    outputs: int | None = None
    heads: tuple[int, int] | None = None
    widths: tuple[int, int] | None = None


def _equal_heads(facts: Facts, options: Mapping[str, Any]) -> str | None:
    if facts.heads is None or facts.heads[0] == facts.heads[1]:
        return None
    return f"needs equal heads, but the student has {facts.heads[0]} and its teacher {facts.heads[1]}"


def _equal_width(facts: Facts, options: Mapping[str, Any]) -> str | None:
    if facts.widths is None or facts.widths[0] == facts.widths[1]:
        return None
    return f"needs equal widths, but the student has {facts.widths[0]} and its teacher {facts.widths[1]}"


def _heads_divide_width(facts: Facts, options: Mapping[str, Any]) -> str | None:
    heads = options.get("heads")
    for whose, width in zip(("student's", "teacher's"), facts.widths or (), strict=False):
        if heads and width % heads:
            return f"option heads: {heads} does not divide the {whose} width of {width}"
    return None


def _classes(facts: Facts, options: Mapping[str, Any]) -> str | None:
    if facts.kind in (None, "classes", "tags"):
        return None
    return f"needs a classification, but the task's kind is {facts.kind!r}"


def _three_classes(facts: Facts, options: Mapping[str, Any]) -> str | None:
    if facts.outputs is None or facts.outputs >= 3 or facts.kind == "values":
        return _classes(facts, options)
    return f"needs 3 classes or more, but the task has {facts.outputs}; weigh `soft`"


def _smoothing(facts: Facts, options: Mapping[str, Any]) -> str | None:
    smoothing = options.get("smoothing", 0.0)
    return None if smoothing < 1 else f"option smoothing: {smoothing} leaves nothing of the label; give less than 1"


# Each returns None, or in a few words why a term cannot work.
NEEDS: Registry[Callable[[Facts, Mapping[str, Any]], str | None]] = Registry(
    "need",
    {
        "equal_heads": _equal_heads,
        "equal_width": _equal_width,
        "heads_divide_width": _heads_divide_width,
        "classes": _classes,
        "classes>=3": _three_classes,
        "smoothing<1": _smoothing,
    },
)
