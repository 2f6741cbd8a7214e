"""The terms of one method for one pair of models: which layers they compare, and what they read of either side.

Free of torch: planning makes the same terms to refuse what cannot work and to know what has to be recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from internal_kd.distillation.curricula import Schedule
from internal_kd.distillation.declarations import KINDS, RESERVED, Layers, Objective
from internal_kd.distillation.needs import Facts
from internal_kd.distillation.objectives import OBJECTIVES, check_needs
from internal_kd.errors import UserError, nearest
from internal_kd.learners.learner import Shape, Wanted

Pair = tuple[int, int]


@dataclass(frozen=True)
class Term:
    """An objective as one method weighs it.

    Attributes:
        weight: constant, or moving with training.
        pairs: (student layer, teacher layer) that it compares, ascending; empty for terms on the outputs.
        arguments: keyword arguments of its function: settings and options.
        projections: (student width, teacher width) by kind whose student side is mapped.
        projection: ``shared`` by all layers, or ``per_layer``.
    """

    name: str
    objective: Objective
    weight: float | Schedule
    pairs: tuple[Pair, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    projections: Mapping[str, Pair] = field(default_factory=dict)
    projection: str = "shared"

    def pairs_in(self, layers: Collection[int]) -> tuple[Pair, ...]:
        """Return the pairs whose student layer is one of ``layers``."""
        return tuple(pair for pair in self.pairs if pair[0] in layers)

    def of_student(self, pairs: Iterable[Pair]) -> Wanted:
        """Return what it reads of the student for these pairs."""
        return _read(self.objective.kinds, {student for student, _ in pairs})

    def of_teacher(self, pairs: Iterable[Pair]) -> Wanted:
        """Return what it reads of the teacher for these pairs."""
        return _read(self.objective.teacher_kinds, {teacher for _, teacher in pairs})


def _read(kinds: Iterable[str], layers: Collection[int]) -> Wanted:
    found: set[tuple[str, int]] = set()
    for kind in kinds:
        found |= {(kind, layer) for layer in layers} if KINDS[kind].by_layer else {(kind, 0)}
    return frozenset(found)


def terms_of(
    weights: Mapping[str, float | Schedule],
    *,
    layer_map: Sequence[Pair] = (),
    student: Shape | None = None,
    teacher: Shape | None = None,
    kind: str | None = None,
    outputs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Term, ...]:
    """Return a method's terms, checked against the shapes of student and teacher.

    Args:
        weights: by objective; a weight of 0 leaves the term out.
        layer_map: (student layer, teacher layer), ascending.
        student, teacher: their shapes; None, or a size that is None, where not known.
        settings: parameters of the method that objectives ask for, as ``{"temperature": 2.0}``.
        options: by objective, those of the method.

    Raises:
        UserError: an objective or option is unknown, a need is not met, a layer does not exist.

    Example:
        >>> [term.pairs for term in terms_of({"hard": 1.0, "cls_cosine": 1.0}, layer_map=[(1, 2), (2, 4)])]
        [(), ((1, 2), (2, 4))]
    """
    student, teacher = student or Shape(), teacher or Shape()
    facts = Facts(kind, outputs, _both(student.heads, teacher.heads), _both(student.width, teacher.width))
    made = []
    for name, weight in weights.items():
        if weight == 0:
            continue
        objective, own = OBJECTIVES[name], (options or {}).get(name, {})
        arguments = objective.with_options(own)
        check_needs(name, facts, own)
        for setting in objective.settings:
            if setting not in (settings or {}):
                raise UserError(f"objective {name!r} needs the setting {setting!r}; give it in the method")
            arguments[setting] = (settings or {})[setting]
        projections = _projections(name, objective, own, student, teacher)
        pairs = _pairs(name, objective, own, layer_map, student, teacher)
        projection = own.get("projection", RESERVED["projection"])
        made.append(Term(name, objective, weight, pairs, arguments, projections, projection))
    return tuple(made)


def compared_layers(terms: Iterable[Term]) -> tuple[int, ...]:
    """Return the student layers that terms compare, ascending: what a curriculum climbs."""
    return tuple(sorted({student for term in terms for student, _ in term.pairs}))


def asked_of_teacher(terms: Iterable[Term]) -> Wanted:
    """Return everything that terms ever read of the teacher: what a recording should hold."""
    return frozenset().union(*(term.of_teacher(term.pairs) for term in terms))


def _both(first: int | None, second: int | None) -> Pair | None:
    return None if first is None or second is None else (first, second)


def _pairs(
    name: str, objective: Objective, own: Mapping[str, Any], layer_map: Sequence[Pair], student: Shape, teacher: Shape
) -> tuple[Pair, ...]:
    chosen = own.get("layers")
    if objective.per == "output":
        if chosen is not None:
            raise UserError(f"objective {name!r}: layers {chosen!r}: it compares outputs, not layers; leave it out")
        return ()
    chosen = objective.layers if chosen is None else chosen
    if isinstance(chosen, list | tuple) and chosen:
        return _listed(name, chosen, layer_map, student, teacher)
    known = get_args(Layers)
    if not isinstance(chosen, str) or chosen not in known:
        near = nearest(str(chosen), known)
        raise UserError(f"objective {name!r}: layers {chosen!r} is not {', '.join(known)} or a list of layers{near}")
    if chosen == "last":
        top = layer_map[-1] if layer_map else (None, None)
        # The two top layers, which a map need not match.
        return _require_pairs(name, [(student.layers or top[0], teacher.layers or top[1])])
    embeddings = [(0, 0)] if chosen != "map" else []
    return _require_pairs(name, [*embeddings, *(layer_map if chosen != "embeddings" else ())])


def _require_pairs(name: str, pairs: Sequence[tuple[int | None, int | None]]) -> tuple[Pair, ...]:
    found = tuple((a, b) for a, b in pairs if a is not None and b is not None)
    if not found:
        raise UserError(f"objective {name!r} compares layers, but no layer map is given")
    return found


def _listed(
    name: str, listed: Sequence[Any], layer_map: Sequence[Pair], student: Shape, teacher: Shape
) -> tuple[Pair, ...]:
    """Student layers of the map by number, or pairs as they stand."""
    of_map = dict(layer_map)
    found: dict[int, int] = {}
    for entry in listed:
        pair = (entry, of_map.get(entry)) if type(entry) is int else entry
        if not isinstance(pair, list | tuple) or [type(layer) for layer in pair] != [int, int]:
            raise UserError(
                f"objective {name!r}: layers {entry!r} is neither a student layer of the map ({sorted(of_map)}) nor a "
                "pair [student, teacher]"
            )
        for layer, depth, whose in zip(pair, (student.layers, teacher.layers), ("student", "teacher"), strict=True):
            if layer < 0 or (depth is not None and layer > depth):
                raise UserError(f"objective {name!r}: the {whose} has no layer {layer}; its layers are 0 to {depth}")
        if pair[0] in found:
            raise UserError(f"objective {name!r}: layers name student layer {pair[0]} twice")
        found[pair[0]] = pair[1]
    return tuple(sorted(found.items()))


def _projections(
    name: str, objective: Objective, own: Mapping[str, Any], student: Shape, teacher: Shape
) -> dict[str, Pair]:
    known, chosen = ("shared", "per_layer"), own.get("projection", "shared")
    if chosen not in known:
        near = nearest(str(chosen), known)
        raise UserError(f"objective {name!r}: projection {chosen!r} is not {' or '.join(known)}{near}")
    widths = _both(student.width, teacher.width)
    if widths is None or not objective.teacher:
        return {}
    return {kind: widths for kind in objective.project if widths[0] != widths[1] or own.get("always_project")}
