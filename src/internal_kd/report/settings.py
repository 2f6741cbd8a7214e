"""The hyper-parameters of a study's methods in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from internal_kd.distillation.curricula import Schedule
from internal_kd.params.resolve import Method
from internal_kd.plan.study import Study
from internal_kd.report.cells import cells_of, point_text
from internal_kd.report.layout import Shown

# What differs rarely enough to be told once, below the table.
COMMON = ("optimizer", "warmup_share", "weight_decay", "max_gradient_norm", "precision", "max_length")


def settings_table(study: Study) -> Shown:
    """Return every method's settings; those that differ between tasks or points are joined by a slash."""
    groups: dict[str, list[Method]] = {}
    for cell in cells_of(study):
        groups.setdefault(cell.method.name, []).append(cell.method)
    texts = {name: [_texts(method) for method in methods] for name, methods in groups.items()}
    columns = list(next(iter(texts.values()))[0]) if texts else []
    lines = tuple(
        (
            f"{groups[name][0].id} {groups[name][0].title}",
            *(_joined(own[column] for own in found) for column in columns),
        )
        for name, found in texts.items()
    )
    common = [
        f"{key.replace('_', ' ')} {_joined(point_text(getattr(m.settings, key)) for ms in groups.values() for m in ms)}"
        for key in COMMON
    ]
    return Shown(
        "", ("method", *columns), lines, "l" * (1 + len(columns)), f"All: {', '.join(common)}." if lines else ""
    )


def _texts(method: Method) -> dict[str, str]:
    settings = method.settings
    climbs = isinstance(settings.curriculum, str) and settings.curriculum != "all"
    curriculum = (
        settings.curriculum if isinstance(settings.curriculum, str) else f"{len(settings.curriculum.phases)} phases"
    )
    return {
        "learner": method.learner.short_name,
        "starts from": _start(settings.learner),
        "taught by": _teacher(method),
        "loss": " + ".join(f"{_weight(weight)}{name}" for name, weight in method.weights.items()),
        "curriculum": f"{curriculum}, {settings.epochs_per_layer} epochs a layer" if climbs else curriculum,
        "layer map": point_text(settings.layer_map) if method.layer_terms else "",
        "temperature": f"{settings.temperature:g}" if method.needs_teacher else "",
        "epochs": str(settings.epochs),
        "batch": str(settings.batch_size),
        "rate": f"{settings.learning_rate:g}",
    }


def _start(learner: Mapping[str, Any]) -> str:
    start = learner.get("start")
    if isinstance(start, Mapping):
        return " ".join(
            str(part).replace("_", " ") for part in (start.get("from", "encoder"), start.get("layers")) if part
        )
    return str(start or "")


def _teacher(method: Method) -> str:
    teacher = method.teacher
    if teacher is None:
        return ""
    source = ", ".join(teacher.of) or teacher.folder or teacher.hub or teacher.answers or "encoder"
    return str(source)


def _weight(weight: float | Schedule) -> str:
    if isinstance(weight, Schedule):
        return f"({weight.start:g} to {weight.end:g}) "
    return "" if weight == 1 else f"{weight:g} "


def _joined(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(texts))
