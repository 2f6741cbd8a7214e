"""Which teacher layer a student layer is matched with, and which source layers a student is built from.

Layers count from 1. Free of torch, so that a plan can be checked before anything heavy is imported.
"""

from collections.abc import Sequence
from itertools import pairwise

from internal_kd.errors import UserError

MAPS = ("uniform", "spread", "first", "last")
CHOICES = ("every_other", "spread", "first", "last")


def layer_map(strategy: str | Sequence[int], teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Return m, where student layer l is matched with teacher layer ``m[l - 1]``.

    ``uniform``: m(l) = k * l with k = teacher_layers / student_layers [paper: "skips one layer for every two"];
    ``spread``: m(l) = round(l * teacher_layers / student_layers), uniform for depths that do not divide [ours];
    ``first``, ``last``: the lowest or highest layers; a list gives every m(l) and may not descend.
    Raises UserError when the student is deeper than the teacher, the depth does not divide it under ``uniform``, the
    strategy is unknown, or a list has the wrong length or leaves 1..teacher_layers.
    """
    _require_depth(student_layers, teacher_layers)
    if not isinstance(strategy, str):
        return _explicit(strategy, teacher_layers, student_layers)
    if strategy == "uniform":
        _require_division(strategy, teacher_layers, student_layers)
    if strategy in ("uniform", "spread"):
        # Integers, halves up: Python's round() would send 2.5 and 3.5 both towards even numbers.
        return tuple((2 * i * teacher_layers + student_layers) // (2 * student_layers) for i in _up_to(student_layers))
    if strategy == "first":
        return tuple(_up_to(student_layers))
    if strategy == "last":
        return tuple(teacher_layers - student_layers + i for i in _up_to(student_layers))
    raise UserError(f"layer map {strategy!r} is unknown; choose one of {', '.join(MAPS)}, or list the layers")


def choose_layers(strategy: str | Sequence[int], source_layers: int, depth: int) -> tuple[int, ...]:
    """Return the source layers a student of ``depth`` layers is built from, in its order.

    ``every_other`` takes layers k, 2k, ... with k = source_layers / depth; ``spread``, ``first``, ``last`` and a list
    are as in `layer_map`. Raises UserError as `layer_map` does.
    """
    if strategy == "every_other":
        _require_depth(depth, source_layers)
        _require_division(strategy, source_layers, depth)
        return layer_map("uniform", source_layers, depth)
    if isinstance(strategy, str) and strategy not in CHOICES:
        raise UserError(f"layers {strategy!r} is unknown; choose one of {', '.join(CHOICES)}, or list the layers")
    return layer_map(strategy, source_layers, depth)


def _up_to(layers: int) -> range:
    return range(1, layers + 1)


def _require_depth(depth: int, layers: int) -> None:
    if depth < 1:
        raise UserError(f"a student of {depth} layers cannot be built; a depth is 1 or more")
    if depth > layers:
        raise UserError(f"a student of {depth} layers is deeper than its teacher of {layers}; choose 1 to {layers}")


def _require_division(strategy: str, layers: int, depth: int) -> None:
    if layers % depth:
        dividing = ", ".join(str(d) for d in _up_to(layers) if layers % d == 0)
        raise UserError(
            f"{strategy!r} needs a depth that divides the teacher's {layers} layers: {dividing}; {depth} does not, "
            f"'spread' takes any depth"
        )


def _explicit(layers: Sequence[int], teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    chosen = tuple(layers)
    if len(chosen) != student_layers:
        raise UserError(f"layers {list(chosen)} name {len(chosen)} layers for a student of {student_layers}")
    if any(not 1 <= layer <= teacher_layers for layer in chosen):
        raise UserError(f"layers {list(chosen)} leave the teacher's layers 1 to {teacher_layers}")
    if any(upper < lower for lower, upper in pairwise(chosen)):
        raise UserError(f"layers {list(chosen)} descend; list them from the lowest to the highest")
    return chosen
