"""How teachers and students are trained, and what methods are composed of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from internal_kd.distillation.curricula import CURRICULA
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.errors import nearest
from internal_kd.fields import Count, Frozen, Name, Number, Positive, Seed, Share, Text, unique


class TrainingParams(Frozen):
    """One training: AdamW, warm-up, linear decay."""

    epochs: Count
    batch_size: Count = 32
    learning_rate: Positive = 2e-5
    warmup_share: Share = Field(0.1, description="share of all steps")
    weight_decay: Annotated[Number, Field(ge=0)] = 0.01
    max_gradient_norm: Positive = 1.0
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast where the hardware has it"
    )


class TeacherParams(TrainingParams):
    """The teacher's fine-tuning."""

    seeds: Annotated[tuple[Seed, ...], AfterValidator(unique)] = Field(min_length=1, description="teachers in row 1.0")
    teaching_seed: Seed = Field(description="the teacher that every student of a task learns from")

    @model_validator(mode="after")
    def _one_teaches(self) -> TeacherParams:
        if self.teaching_seed not in self.seeds:
            raise ValueError(f"teaching_seed {self.teaching_seed} is not among teacher.seeds {list(self.seeds)}")
        return self


InitialSource = Literal["pretrained", "teacher", "random"]
InitialLayers = Literal["first", "every_other", "spread", "last"] | tuple[Count, ...]


class InitializationParams(Frozen):
    """Where a student's first weights come from."""

    source: InitialSource = "pretrained"
    layers: InitialLayers = Field(
        "first", description="which of the source's layers; `spread` is every_other for depths that do not divide"
    )


class OwnInitializationParams(Frozen):
    """What a method says of a student's first weights; what it leaves out is as in `student.initialization`."""

    source: InitialSource | None = None
    layers: InitialLayers | None = None


LayerMap = Literal["uniform", "spread", "first", "last"] | tuple[Count, ...]


class StudentParams(TrainingParams):
    """What all students share; a method may override any of it."""

    initialization: InitializationParams = InitializationParams()
    layer_map: LayerMap = "uniform"
    temperature: Positive = 1.0
    epochs_per_layer: Count = Field(description="longest stay of a curriculum at one layer")
    cosine_threshold: Annotated[Number, Field(ge=0)] = Field(
        description="a stage ends early when its epoch's mean cosine loss falls below this"
    )


class MethodParams(Frozen):
    """One row of the main table, composed of objectives and a curriculum."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.]{1,12}$")]
    title: Text | None = None
    weights: dict[str, Annotated[Number, Field(ge=0)]]
    curriculum: str = "all"
    classification: Literal["top", "always"] = "top"
    compare_with: Annotated[tuple[Name, ...], AfterValidator(unique)] | None = Field(
        None, description="methods it is held against in the tables; rows 3.0 and 2.0 when left out; moves no run"
    )
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    warmup_share: Share | None = None
    weight_decay: Annotated[Number, Field(ge=0)] | None = None
    max_gradient_norm: Positive | None = None
    precision: Literal["auto", "fp32", "bf16"] | None = None
    initialization: OwnInitializationParams | None = None
    layer_map: LayerMap | None = None
    temperature: Positive | None = None
    epochs_per_layer: Count | None = None
    cosine_threshold: Annotated[Number, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _composed_of_known_parts(self) -> MethodParams:
        for name in self.weights:
            if name not in OBJECTIVES:
                raise ValueError(
                    f"unknown objective {name!r}{nearest(name, list(OBJECTIVES))}; known: {', '.join(OBJECTIVES)}"
                )
        if self.curriculum not in CURRICULA:
            known = list(CURRICULA)
            raise ValueError(
                f"unknown curriculum {self.curriculum!r}{nearest(self.curriculum, known)}; known: {', '.join(known)}"
            )
        if not any(OBJECTIVES[name].level == "output" and weight > 0 for name, weight in self.weights.items()):
            raise ValueError("no classification term has a weight above 0: give `soft` or `hard` one")
        if self.curriculum != "all" and not any(
            OBJECTIVES[name].level == "layer" and weight > 0 for name, weight in self.weights.items()
        ):
            raise ValueError(
                f"curriculum {self.curriculum!r} climbs layers, but no layer objective has a weight above 0"
            )
        return self


@dataclass(frozen=True)
class ResolvedMethod:
    """A method with everything it inherits from ``student`` filled in."""

    name: str
    id: str
    title: str
    weights: dict[str, float]
    curriculum: str
    classification: str
    settings: StudentParams

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return any(OBJECTIVES[name].needs_teacher for name in self.weights)

    @property
    def layer_terms(self) -> tuple[str, ...]:
        """The objectives that compare matched layers."""
        return tuple(name for name in self.weights if OBJECTIVES[name].level == "layer")

    def with_epochs(self, epochs: int | None, own: int | None) -> ResolvedMethod:
        """Return the method with a task's number of epochs, unless the method names its own."""
        if epochs is None or own is not None:
            return self
        return replace(self, settings=self.settings.model_copy(update={"epochs": epochs}))

    def identity(self) -> dict[str, Any]:
        """Return exactly the parameters that determine a training, so that no other one retrains anything."""
        chosen: dict[str, Any] = {name: getattr(self.settings, name) for name in TrainingParams.model_fields}
        chosen["weights"] = dict(sorted(self.weights.items()))
        if self.layer_terms:
            chosen["layer_map"] = self.settings.layer_map
        if any(OBJECTIVES[name].reads == "logits" for name in self.weights):
            chosen["temperature"] = self.settings.temperature
        if self.curriculum != "all":
            chosen |= {"curriculum": self.curriculum, "classification": self.classification}
            chosen |= {n: getattr(self.settings, n) for n in ("epochs_per_layer", "cosine_threshold")}
        return chosen


def resolve_method(name: str, method: MethodParams, student: StudentParams) -> ResolvedMethod:
    """Lay a method's own settings over the students' common ones; terms of weight 0 are left out."""
    given = method.model_dump(exclude_none=True)
    own = {key: value for key, value in given.items() if key in StudentParams.model_fields}
    common = student.model_dump()
    own["initialization"] = common["initialization"] | own.get("initialization", {})
    return ResolvedMethod(
        name=name,
        id=method.id,
        title=method.title or name,
        weights={term: weight for term, weight in method.weights.items() if weight > 0},
        curriculum=method.curriculum,
        classification=method.classification,
        settings=StudentParams.model_validate(common | own),
    )
