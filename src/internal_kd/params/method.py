"""What a method is: who learns, from whom, by which terms, how it is trained.

Three layers give a method its values: ``defaults``, the method's own entry, and what a task says of either
(``tasks.<task>.defaults``, ``tasks.<task>.methods.<method>``). ``resolve`` is the one place where they are laid over
each other, for teachers and students alike. Nothing heavy is imported: a plan asks for methods thousands of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from internal_kd.distillation.curricula import CURRICULA, Phase, Schedule
from internal_kd.distillation.objectives import OBJECTIVES, Objective
from internal_kd.errors import UserError, named, nearest
from internal_kd.fields import (
    Count,
    FilePath,
    Frozen,
    Name,
    NotNegative,
    Number,
    Positive,
    Revision,
    Seed,
    Share,
    Text,
    unique,
)
from internal_kd.learners.learner import Learner, parse_learner


class TrainingParams(Frozen):
    """One training: the optimizer, warm-up, linear decay."""

    epochs: Count = 3
    batch_size: Count = 32
    learning_rate: Positive = 2e-5
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with `momentum`")
    momentum: Share = Field(0.9, description="of sgd")
    warmup_share: Share = Field(0.1, description="share of all steps")
    weight_decay: NotNegative = 0.01
    max_gradient_norm: Positive = 1.0
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 autocast where it is native")


def _full_or_part(value: Any) -> Any:
    if value is None or value == "full" or isinstance(value, bool):
        return value
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        if int(value) < 1:
            raise ValueError("should be `full`, a number of examples, or a share between 0 and 1")
        return int(value)
    if isinstance(value, float) and 0 < value < 1:
        return value
    return "full" if value == 1.0 else value


class SelectParams(Frozen):
    """Which training examples a method sees."""

    by: Name = Field("random", description="the order they are taken in: one fixed, nested permutation")
    keep: Annotated[Count | float | Literal["full"], BeforeValidator(_full_or_part)] = Field(
        "full", description="a number of examples, a share between 0 and 1, or `full`"
    )
    hold_out: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the training set that is kept aside and scored; `seed: best` chooses by it"
    )


class TeacherParams(Frozen):
    """Whose answers a method listens to: those of methods, of somebody's model, or in a file."""

    of: tuple[Name, ...] = Field((), description="a method, or a list of methods: an ensemble")
    seed: Seed | Literal["first", "same", "best"] = Field(
        "first", description="which of its runs; `same`: the student's own seed; `best`: by the held-out examples"
    )
    seeds: Annotated[tuple[Seed, ...], AfterValidator(unique)] = Field((), description="several: an ensemble")
    combine: Literal["mean_probabilities", "mean_logits"] = Field(
        "mean_probabilities", description="how the answers of an ensemble become one"
    )
    internals: Literal["none", "first"] = Field(
        "none", description="first: an ensemble's first member hands out its own"
    )
    folder: FilePath | None = Field(None, description="a model that was fine-tuned elsewhere, in transformers' layout")
    hub: Text | None = Field(None, description="the same on the hub: its id")
    revision: Revision | None = Field(None, description="its commit, 40 hexadecimal digits")
    labels: tuple[str, ...] | None = Field(
        None, description="the classes in that model's own order, if it has no names"
    )
    answers: FilePath | None = Field(None, description="CSV, JSON Lines or Parquet with an answer for each text")
    encoder: bool = Field(False, description="the pre-trained encoder: its internals alone")
    weak: Literal["refuse", "accept"] = Field(
        "refuse", description="refuse: a teacher that is no better than the majority class ends the study"
    )

    @model_validator(mode="after")
    def _names_one_source(self) -> TeacherParams:
        sources = {
            "of": self.of,
            "folder": self.folder,
            "hub": self.hub,
            "answers": self.answers,
            "encoder": self.encoder,
        }
        given = [name for name, value in sources.items() if value]
        if len(given) > 1:
            raise ValueError(f"names {' and '.join(f'`{name}`' for name in given)}: give one of them")
        if not given:
            raise ValueError(f"names nobody: give one of {', '.join(f'`{name}`' for name in sources)}")
        if self.hub and not self.revision:
            raise ValueError("`hub` needs `revision`, the commit to take")
        if self.seeds and self.seed != "first":
            raise ValueError("give `seed` or `seeds`, not both")
        if (self.seeds or self.seed != "first") and not self.of:
            raise ValueError("`seed` and `seeds` are for methods, named by `of`")
        if self.labels and not (self.folder or self.hub):
            raise ValueError("`labels` are for a model, named by `folder` or `hub`")
        return self


def _teacher(value: Any) -> Any:
    """Read the short spellings: a method's name, a list of names, `encoder`, `none`."""
    if value == "encoder":
        return {"encoder": True}
    if value in (None, "none", "None"):
        return None
    if isinstance(value, str | list | tuple):
        return {"of": [value] if isinstance(value, str) else list(value)}
    if isinstance(value, Mapping) and isinstance(value.get("of"), str):
        return {**value, "of": [value["of"]]}
    return value


LayerMap = Literal["uniform", "spread", "first", "last", "skip", "last_below_top"] | tuple[Count | None, ...]


class Phases(Frozen):
    """A curriculum that is a list of trainings in a row, such as TinyBERT's two."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]


class MethodParams(TrainingParams):
    """One row of the main table. Everything may stand in ``defaults`` too, except id and title."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.]{1,12}$")] | None = Field(
        None, description="the row's number in the tables"
    )
    title: Text | None = Field(None, description="the row's name in tables and figures")
    learner: dict[str, Any] = Field(default_factory=dict, description="who learns (docs/reference/learners.md)")
    teacher: Annotated[TeacherParams | None, BeforeValidator(_teacher)] = Field(
        None, description="whose answers it listens to: a method, a list, a mapping, `encoder` or `none`"
    )
    weights: dict[Name, Annotated[NotNegative | Schedule, Field()]] = Field(
        default_factory=dict, description="terms of the loss and their weights (docs/reference/objectives.md)"
    )
    options: dict[Name, dict[str, Any]] = Field(default_factory=dict, description="options of terms, by term")
    curriculum: str | Phases = Field("all", description="a curriculum's name, or `{phases: [...]}`")
    classification: Literal["top", "always"] = Field("top", description="when the output terms count in a curriculum")
    epochs_per_layer: Count = Field(1, description="longest stay of a curriculum at one layer")
    cosine_threshold: NotNegative = Field(
        0.0, description="a stage ends early when its epoch's mean cosine loss is below this"
    )
    layer_map: LayerMap = Field("uniform", description="which teacher layer each student layer is matched with")
    temperature: Positive = 1.0
    max_length: Annotated[Count, Field(ge=4)] = Field(64, description="longest sequence, special tokens included")
    select: SelectParams = SelectParams()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="instead of study.seeds"
    )
    compare_with: Annotated[tuple[Name, ...], AfterValidator(unique)] | None = Field(
        None, description="rows it is compared with in the appendix; rows 3.0 and 2.0 if left out"
    )

    @property
    def course(self) -> str | tuple[Phase, ...]:
        """The curriculum's name, or its phases."""
        return self.curriculum.phases if isinstance(self.curriculum, Phases) else self.curriculum


# Mappings in which a later layer replaces the earlier one whole: half of a teacher is not a teacher.
WHOLE = ("teacher", "weights", "curriculum")


@dataclass(frozen=True)
class Method:
    """A method with every value filled in, for one task and one point of ``study.vary``.

    Attributes:
        learner: who learns.
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
    def teacher(self) -> TeacherParams | None:
        """Whose answers it listens to; None for a method whose terms never ask a teacher."""
        return self.settings.teacher if self.needs_teacher else None

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

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Exactly what determines a training beside its inputs: a setting counts if it is used and not its default."""
        settings, default = self.settings, MethodParams()
        used = [*TrainingParams.model_fields]
        if settings.optimizer != "sgd":
            used.remove("momentum")
        if self.layer_terms:
            used.append("layer_map")
        if any("temperature" in objective.settings for objective in self.objectives.values()):
            used.append("temperature")
        if settings.curriculum != "all":
            used.append("curriculum")
        if isinstance(settings.curriculum, str) and settings.curriculum != "all":
            used += ["classification", "epochs_per_layer", "cosine_threshold"]
        chosen = {name: getattr(settings, name) for name in used}
        chosen = {name: value for name, value in chosen.items() if value != getattr(default, name)}
        select = settings.select.model_dump(exclude_defaults=True)
        return {
            **chosen,
            **({"select": select} if select else {}),
            "learner": self.learner.identity(),
            "weights": dict(sorted(self.weights.items())),
            "terms": {name: entry.identity(self.options(name)) for name, entry in sorted(self.objectives.items())},
        }


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


def says(entry: Mapping[str, Any], path: str) -> bool:
    """Whether an entry gives the key of a dotted path itself."""
    for part in path.split("."):
        if not isinstance(entry, Mapping) or part not in entry:
            return False
        entry = entry[part]
    return True


def at(path: str, value: Any) -> dict[str, Any]:
    """Return the mapping that a dotted path stands for: ``at("learner.layers", 3)`` is {learner: {layers: 3}}."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def read_at(values: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None if there is none."""
    found: Any = values
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def resolve(name: str, layers: Iterable[Mapping[str, Any]], point: Mapping[str, Any], where: str) -> Method:
    """Lay the layers over each other, lowest first, and return the method they make.

    Args:
        name: the method's name.
        layers: what ``given_in`` returned for defaults, entry and task.
        point: the varied keys and this method's values for them.
        where: the parameter that errors name, such as ``methods.soft``.

    Raises:
        UserError: the whole does not make a method: no id, no terms, an unknown term, curriculum or learner.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values = lay_over(values, layer)
    settings = MethodParams.model_validate(values)
    if settings.id is None:
        raise UserError(f"{where}.id: is missing; give the row a number, such as '3.0'")
    learner = parse_learner(settings.learner, f"{where}.learner")
    weights = {term: weight for term, weight in settings.weights.items() if weight != 0}
    _check_terms(settings, weights, learner, where)
    return Method(name, settings.id, settings.title or name, learner, weights, settings, dict(point))


def _check_terms(settings: MethodParams, weights: Mapping[str, Any], learner: Learner, where: str) -> None:
    for term in (*settings.weights, *settings.options):
        if term not in OBJECTIVES:
            raise UserError(
                f"{where}: unknown objective {term!r}{nearest(term, list(OBJECTIVES))}; known: {', '.join(OBJECTIVES)}"
            )
    for term, options in settings.options.items():
        with named(f"{where}.options.{term}"):
            OBJECTIVES[term].with_options(options)
    if isinstance(settings.curriculum, str) and settings.curriculum not in CURRICULA:
        known = list(CURRICULA)
        raise UserError(
            f"{where}.curriculum: unknown curriculum {settings.curriculum!r}{nearest(settings.curriculum, known)}; "
            f"known: {', '.join(known)}"
        )
    if learner.kind == "finished":
        return  # somebody trained it already
    if not weights:
        raise UserError(f"{where}.weights: no term has a weight above 0; give one, such as {{hard: 1}}")
    layered = [name for name in weights if OBJECTIVES[name].per != "output"]
    if len(layered) == len(weights) and settings.teacher and not settings.teacher.encoder:
        raise UserError(f"{where}.weights: no term reads the classes: give `soft` or `hard` a weight above 0")
    if isinstance(settings.curriculum, str) and settings.curriculum != "all" and not layered:
        raise UserError(
            f"{where}.curriculum: {settings.curriculum!r} climbs layers, but no layer term has a weight above 0"
        )
    asking = [name for name in weights if OBJECTIVES[name].teacher]
    if asking and settings.teacher is None:
        raise UserError(f"{where}.teacher: {', '.join(asking)} compare with a teacher, and none is named")
