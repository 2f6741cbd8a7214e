"""A method with every value filled in: defaults, varied values, its own entry and its task laid over each other.

``resolve`` is the one place where that happens, for teachers and students alike. Nothing heavy is imported: a plan asks
for methods thousands of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from internal_kd.distillation.curricula import CURRICULA, Schedule
from internal_kd.distillation.declarations import Objective
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.optimizing import TrainingParams
from internal_kd.distillation.selectors import SCORES, SELECTORS
from internal_kd.distillation.source_hash import source_hash
from internal_kd.errors import UserError, named, nearest
from internal_kd.learners.learner import LEARNERS, UNTRAINED, Learner, parse_learner
from internal_kd.messages import refusal
from internal_kd.params.method import MethodParams, Phases, ScoutParams, SelectParams, TeacherParams
from internal_kd.plugins import PLUGIN

# Mappings in which a later layer replaces the earlier one whole: half of a teacher is not a teacher.
WHOLE = ("teacher", "weights", "curriculum")
_NOTHING = object()


def row_label(number: str, title: str) -> str:
    """Return what people call a row: ``3.5 Stacked (SID)``, or for a method without either its name once."""
    return title if number in ("", title) else f"{number} {title}"


@dataclass(frozen=True)
class Method:
    """A method with every value filled in, for one task and one point of ``study.vary``.

    Attributes:
        weights: terms with a weight other than 0, in the order given.
        settings: everything else, resolved.
        point: the varied keys of the study and this method's values for them.
    """

    name: str
    id: str
    title: str
    learner: Learner
    weights: dict[str, float | Schedule]
    settings: MethodParams
    point: dict[str, Any]

    @property
    def label(self) -> str:
        """What people call it."""
        return row_label(self.id, self.title)

    @property
    def teacher(self) -> TeacherParams | None:
        """Whose answers it listens to; None for a method whose terms never ask a teacher."""
        return self.settings.teacher if self.needs_teacher else None

    @property
    def scout(self) -> ScoutParams | None:
        """Whose predictions score the training examples, None if none are asked for."""
        return None if self.learner.kind in UNTRAINED else self.settings.select.of

    @cached_property
    def objectives(self) -> dict[str, Objective]:
        """Its terms as they are registered."""
        return {name: OBJECTIVES[name] for name in self.weights}

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return any(objective.teacher for objective in self.objectives.values())

    @property
    def layer_terms(self) -> tuple[str, ...]:
        """The terms that compare layers."""
        return tuple(name for name, objective in self.objectives.items() if objective.per != "output")

    def options(self, term: str) -> dict[str, Any]:
        """Return the options that this method gives a term."""
        return self.settings.options.get(term, {})

    @cached_property
    def variant(self) -> str:
        """A short text for paths: the learner's shape and the share of the data, such as ``L6`` or ``L4x312-n1000``."""
        keep = self.settings.select.keep
        size = "" if keep == "full" else f"-n{keep}"
        return f"{self.learner.short_name}{size}"

    @property
    def used(self) -> list[str]:
        """The settings of its training that have an effect."""
        settings, used = self.settings, [*TrainingParams.model_fields]
        if settings.optimizer != "sgd":
            used.remove("momentum")
        if self.layer_terms:
            used.append("layer_map")
        used += [name for entry in self.objectives.values() for name in entry.settings if name not in used]
        if isinstance(settings.curriculum, Phases):
            return [name for name in used if name != "epochs"] + ["curriculum"]  # phases have epochs of their own
        climbing = ["curriculum", "classification", "epochs_per_layer", "cosine_threshold"]
        return used if settings.curriculum == "all" else used + climbing

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Exactly what determines a training beside its inputs: a setting counts if it is used and not its default."""
        settings, default = self.settings, MethodParams()
        if self.learner.kind in UNTRAINED:
            # Nothing is trained; recordings are made in this precision.
            precision = {} if settings.precision == default.precision else {"precision": settings.precision}
            return {**precision, "learner": self.learner.identity()}
        chosen = {name: getattr(settings, name) for name in self.used}
        chosen = {name: value for name, value in chosen.items() if value != getattr(default, name)}
        select = settings.select.model_dump(exclude_defaults=True)
        if not settings.select.masked_copies:
            select.pop("masked_share", None)
        # Runs and files count by their fingerprints; what happens to an emptied class moves no number.
        select.pop("empty_classes", None)
        if settings.select.file:
            select["by"] = "file"
        if scout := select.pop("of", None):
            select |= {"epoch": scout["epoch"]} if "epoch" in scout else {}
        return {
            **chosen,
            **({"select": select} if select else {}),
            **self._code,
            "learner": self.learner.identity(),
            "weights": dict(sorted(self.weights.items())),
            "terms": {name: entry.identity(self.options(name)) for name, entry in sorted(self.objectives.items())},
        }

    @property
    def _code(self) -> dict[str, str]:
        """The code of a plugin's curriculum, selector and learner: an edited one retrains the methods that use it."""
        code = {}
        if isinstance(self.settings.curriculum, str):
            function = CURRICULA[self.settings.curriculum]
            if function.__module__.startswith(PLUGIN):
                code["curriculum_code"] = source_hash(f"{function.__module__}:{function.__qualname__}")
        by = self.settings.select.by
        for registry in (SELECTORS, SCORES):
            if by in registry and registry[by].startswith(PLUGIN):
                code["selector_code"] = source_hash(registry[by])
        if LEARNERS[self.learner.kind].startswith(PLUGIN):
            code["learner_code"] = source_hash(LEARNERS[self.learner.kind])
        return code


def lay_over(base: Mapping[str, Any], layer: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return ``base`` with a layer's values, mapping by mapping, but one thing as a whole."""
    merged = dict(base)
    for key, value in layer.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not (not where and is_whole(key, old, value)):
            value = lay_over(old, value, key)
        merged[key] = value
    return merged


def is_whole(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a method's mapping is replaced by a later layer: one thing, or a learner of another kind."""
    return key in WHOLE or (key == "learner" and new.get("kind", "encoder") != old.get("kind", "encoder"))


def given_in(entry: MethodParams) -> dict[str, Any]:
    """Return what an entry of params.yaml says itself, as plain values."""
    return entry.model_dump(exclude_unset=True, by_alias=True)


def at(path: str, value: Any) -> dict[str, Any]:
    """Return the mapping that a dotted path stands for: ``at("learner.layers", 3)`` is {learner: {layers: 3}}."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def read_at(values: Mapping[str, Any], path: str, otherwise: Any = None) -> Any:
    """Return the value at a dotted path, ``otherwise`` if there is none."""
    found: Any = values
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return otherwise
        found = found[part]
    return found


def says(entry: Mapping[str, Any], path: str) -> bool:
    """Whether an entry gives the key of a dotted path itself."""
    return read_at(entry, path, _NOTHING) is not _NOTHING


def resolve(name: str, layers: Iterable[Mapping[str, Any]], point: Mapping[str, Any], where: str) -> Method:
    """Lay the layers over each other, lowest first, and return the method they make; errors name ``where``.

    ``layers`` are what ``given_in`` returned for defaults, entry and task; ``point`` has the varied keys and this
    method's values for them.

    Raises:
        UserError: the whole does not make a method: no terms, an unknown term, curriculum or learner.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values = lay_over(values, layer)
    try:
        settings = MethodParams.model_validate(values)
    except ValidationError as error:
        raise UserError(refusal(error.errors(include_url=False), values, where)) from None
    if "weights" not in values and not (settings.teacher and settings.teacher.encoder):
        settings = settings.model_copy(update={"weights": {"soft" if settings.teacher else "hard": 1.0}})
    learner = parse_learner(settings.learner, f"{where}.learner")
    trained = learner.kind not in UNTRAINED
    weights = {term: weight for term, weight in settings.weights.items() if weight != 0 and trained}
    check_terms(settings, weights, learner.kind, where)
    return Method(name, settings.id or name, settings.title or name, learner, weights, settings, dict(point))


def check_terms(settings: MethodParams, weights: Mapping[str, Any], learner: str, where: str) -> None:
    """Refuse terms, options and a curriculum that do not make a training.

    ``weights`` are those above 0, ``learner`` a kind of learner; errors name ``where``.

    Raises:
        UserError: a name or an option is unknown, no term has a weight or reads the classes, a curriculum climbs layers
            that no term compares, or terms ask a teacher and there is none.
    """
    with named(where):
        for term in (*settings.weights, *settings.options):
            OBJECTIVES[term]
    for term, options in settings.options.items():
        with named(f"{where}.options.{term}"):
            OBJECTIVES[term].with_options(options)
    if isinstance(settings.curriculum, str):
        with named(f"{where}.curriculum"):
            CURRICULA[settings.curriculum]
    _check_select(settings.select, f"{where}.select")
    if learner in UNTRAINED:
        return
    if not weights:
        raise UserError(f"{where}.weights: no term has a weight above 0; give one, such as {{hard: 1}}")
    layered = [name for name in weights if OBJECTIVES[name].per != "output"]
    if len(layered) == len(weights) and settings.teacher and not settings.teacher.encoder:
        raise UserError(f"{where}.weights: no term reads the classes: give `soft` or `hard` a weight above 0")
    if isinstance(settings.curriculum, str) and settings.curriculum != "all" and not layered:
        raise UserError(
            f"{where}.curriculum: {settings.curriculum!r} climbs layers, but no layer term has a weight above 0"
        )
    if layered and settings.teacher and (settings.teacher.average or settings.teacher.control):
        which = "average" if settings.teacher.average else "control"
        raise UserError(f"{where}.teacher.{which}: answers with logits alone; leave {', '.join(layered)} out")
    asking = [name for name in weights if OBJECTIVES[name].teacher]
    if asking and settings.teacher and settings.teacher.average and learner == "pair":
        raise UserError(f"{where}.teacher.average: a pair has two sets of weights; weigh `mutual`, or name a teacher")
    if asking and settings.teacher is None:
        raise UserError(f"{where}.teacher: {', '.join(asking)} compare with a teacher, and none is named")


def _check_select(select: SelectParams, where: str) -> None:
    known = [*SELECTORS, *SCORES]
    if select.by not in known and not select.file:
        raise UserError(
            f"{where}.by: unknown selector {select.by!r}{nearest(select.by, known)}; known: {', '.join(known)}, or a "
            ".csv, .tsv, .jsonl or .parquet file of scores"
        )
    if select.by in SCORES and select.of is None:
        raise UserError(f"{where}.of: {select.by} is a score; name the method whose predictions give it")
    if select.of is not None and select.by not in SCORES:
        raise UserError(f"{where}.of: {select.by} asks nobody; leave `of` out, or choose one of {', '.join(SCORES)}")
    if select.order != "high" and select.by in SELECTORS:
        raise UserError(f"{where}.order: {select.by} has no scores; leave `order` out")
