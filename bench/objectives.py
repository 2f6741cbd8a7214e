"""Every objective of the registry: what it reads of a recorded teacher, and the stages that train on each in turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from bench.workload import Workload
from internal_kd.distillation.curricula import Stage
from internal_kd.distillation.declarations import KINDS
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.recording_size import recording_bytes
from internal_kd.distillation.terms import Term, asked_of_teacher, compared_layers, terms_of
from internal_kd.learners.learner import OF_PAIRS, OF_TREES, Shape

BASE = "soft"  # what every objective is added to
IN_A_ROW = 3


@dataclass(frozen=True)
class Recorded:
    """What an objective reads of the teacher, in words, and the bytes an example that recording it takes."""

    reads: str
    bytes: int


def names() -> tuple[str, ...]:
    """Return every objective that encoders have, plain soft labels first."""
    of_encoders = [name for name in OBJECTIVES if not (OF_TREES | OF_PAIRS) & {*OBJECTIVES[name].reads}]
    return (BASE, *(name for name in of_encoders if name != BASE))


def turns() -> tuple[str, ...]:
    """Return the objectives in the order of a round; plain soft labels come before every few of them and at the end."""
    others = names()[1:]
    found = [BASE]
    for at in range(0, len(others), IN_A_ROW):
        found += [*others[at : at + IN_A_ROW], BASE]
    return tuple(found)


def terms_for(workload: Workload, weighed: Iterable[str]) -> tuple[Term, ...]:
    """Return some objectives as terms of weight 1 between the workload's student and teacher."""
    shapes = [Shape(layers, workload.width, workload.heads) for layers in _depths(workload)]
    return terms_of(
        dict.fromkeys(weighed, 1.0),
        layer_map=tuple(enumerate(workload.matched, start=1)),
        student=shapes[0],
        teacher=shapes[1],
        kind="classes",
        outputs=workload.classes,
        settings={"temperature": 1.0},
    )


def stages_of_all(workload: Workload) -> tuple[Stage, ...]:
    """Return a stage for each turn: soft labels and the objective."""
    layers = compared_layers(terms_for(workload, names()))
    return tuple(Stage(name, layers, output_terms=True, terms=(BASE, name)) for name in turns())


def recorded(workload: Workload, lengths: np.ndarray) -> dict[str, dict[str, str | int]]:
    """Return what each objective alone has recorded of a teacher, by name; ``lengths``: tokens of each example."""
    sizes = {"classes": workload.classes, "width": workload.width, "inner": workload.width, "heads": workload.heads}
    found = {}
    for name in names():
        wanted = asked_of_teacher(terms_for(workload, [name]))
        size = recording_bytes(wanted, lengths, sizes) / len(lengths)
        found[name] = asdict(Recorded(_in_words(wanted), round(size)))
    return found


def _depths(workload: Workload) -> tuple[int, int]:
    return workload.student_layers, workload.teacher_layers


def _in_words(wanted: frozenset[tuple[str, int]]) -> str:
    """``hidden (6 layers)``, and so on."""
    layers: dict[str, int] = {}
    for kind, _ in sorted(wanted, key=lambda one: list(KINDS).index(one[0])):
        layers[kind] = layers.get(kind, 0) + 1
    named = (
        f"{kind} ({count} layer{'s' * (count > 1)})" if KINDS[kind].by_layer else kind for kind, count in layers.items()
    )
    return ", ".join(named) or "nothing"
