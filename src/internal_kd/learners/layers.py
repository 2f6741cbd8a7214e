"""Which teacher layer a student layer is matched with, and which source layers a student is built from.

Layers count from 1. Free of torch, so that a plan can be checked before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from internal_kd.errors import UserError, nearest

MAPS = ("uniform", "spread", "first", "last", "skip", "last_below_top")
CHOICES = ("every_other", "spread", "first", "last")

Pairs = tuple[tuple[int, int], ...]


def layer_map(strategy: str | Sequence[int | None], teacher_layers: int, student_layers: int) -> Pairs:
    """Return the matched pairs (student layer, teacher layer), lowest first.

    | strategy | student layer l is matched with |
    |---|---|
    | ``uniform`` | k * l, k = teacher_layers / student_layers ("skips one layer for every two", Aguilar et al. 2020) |
    | ``spread`` | round(l * teacher_layers / student_layers): ``uniform`` for depths that do not divide |
    | ``first``, ``last`` | the lowest, the highest teacher layers |
    | ``skip`` | as ``uniform``, the top layer left out (PKD-Skip of Sun et al. 2019: 12 to 6 is 2, 4, 6, 8, 10) |
    | ``last_below_top`` | as ``last``, one lower and the top layer left out (PKD-Last: 12 to 6 is 7, ..., 11) |
    | a list | its l-th entry; None or 0 leaves l out; entries may not descend |

    Raises:
        UserError: the student is deeper than the teacher (lists apart), its depth does not divide the teacher's, no
            pair is left, the strategy is unknown, or a list has another length or names layers that do not exist.

    Example:
        >>> layer_map("skip", 12, 6)
        ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))
        >>> layer_map([None, 6, 12], 12, 3)
        ((2, 6), (3, 12))
    """
    if not isinstance(strategy, str):
        return _explicit(strategy, teacher_layers, student_layers)
    if strategy not in MAPS:
        near = nearest(strategy, MAPS)
        raise UserError(f"layer map {strategy!r} is unknown{near}; choose one of {', '.join(MAPS)}, or list the layers")
    _require_depth(student_layers, teacher_layers)
    below = strategy in ("skip", "last_below_top")
    students = range(1, student_layers + (0 if below else 1))
    if not students:
        raise UserError(f"layer map {strategy!r} leaves out the top layer, and a student of 1 layer has no other")
    if strategy in ("uniform", "skip"):
        _require_division(strategy, teacher_layers, student_layers)
    if strategy == "first":
        return tuple((i, i) for i in students)
    if strategy in ("last", "last_below_top"):
        return tuple((i, teacher_layers - student_layers + i) for i in students)
    # Integers, halves up: Python's round() would send 2.5 and 3.5 both towards even numbers.
    return tuple((i, (2 * i * teacher_layers + student_layers) // (2 * student_layers)) for i in students)


def choose_layers(strategy: str | Sequence[int], source_layers: int, depth: int) -> tuple[int, ...]:
    """Return the source layers a student of ``depth`` layers is built from, in its order.

    ``every_other`` takes layers k, 2k, ... with k = source_layers / depth; ``spread``, ``first``, ``last`` and a list
    (without gaps) are as in `layer_map`.

    Raises:
        UserError: as `layer_map` does.

    Example:
        >>> choose_layers("every_other", 12, 6)
        (2, 4, 6, 8, 10, 12)
    """
    if isinstance(strategy, str):
        if strategy not in CHOICES:
            raise UserError(f"layers {strategy!r} is unknown; choose one of {', '.join(CHOICES)}, or list the layers")
        if strategy == "every_other":
            _require_depth(depth, source_layers)
            _require_division(strategy, source_layers, depth)
            strategy = "uniform"
    elif any(not layer for layer in strategy):
        raise UserError(f"layers {list(strategy)} leave one out; every layer of a student is built from one")
    return tuple(source for _, source in layer_map(strategy, source_layers, depth))


def _require_depth(depth: int, layers: int) -> None:
    if depth < 1:
        raise UserError(f"a student of {depth} layers cannot be built; a depth is 1 or more")
    if depth > layers:
        raise UserError(f"a student of {depth} layers is deeper than its source of {layers}; choose 1 to {layers}")


def _require_division(strategy: str, layers: int, depth: int) -> None:
    if layers % depth:
        dividing = ", ".join(str(d) for d in range(1, layers + 1) if layers % d == 0)
        raise UserError(
            f"{strategy!r} needs a depth that divides the {layers} layers: {dividing}; {depth} does not, 'spread' "
            "takes any depth"
        )


def _explicit(listed: Sequence[int | None], teacher_layers: int, student_layers: int) -> Pairs:
    shown = [layer or None for layer in listed]
    if len(listed) != student_layers:
        raise UserError(f"layers {shown} name {len(listed)} layers for a student of {student_layers}")
    pairs = tuple((student, layer) for student, layer in enumerate(shown, start=1) if layer)
    if any(not 1 <= layer <= teacher_layers for _, layer in pairs):
        raise UserError(f"layers {shown} leave the layers 1 to {teacher_layers}")
    if any(upper < lower for (_, lower), (_, upper) in pairwise(pairs)):
        raise UserError(f"layers {shown} descend; list them from the lowest to the highest")
    if not pairs:
        raise UserError(f"layers {shown} match nothing; name at least one layer")
    return pairs
