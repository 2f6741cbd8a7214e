"""What a method may say: who learns, from whom, by which terms, how it is trained.

Three layers give a method its values: ``defaults``, the method's own entry, and what a task says of either
(``tasks.<task>.defaults``, ``tasks.<task>.methods.<method>``); params/resolve.py lays them over each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from internal_kd.distillation.curricula import Phase, Schedule
from internal_kd.distillation.optimizing import TrainingParams
from internal_kd.fields import (
    Count,
    FilePath,
    Frozen,
    Name,
    NotNegative,
    Number,
    Positive,
    Revision,
    Row,
    Seed,
    Text,
    Whole,
    unique,
)


def _full_or_part(value: Any) -> Any:
    if value == "full" or isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        number = int(value) if isinstance(value, int) or str(value).isdigit() else float(value)
    except ValueError:
        return value
    if isinstance(number, float) and number == 1.0:
        return "full"
    if number >= 1 if isinstance(number, int) else 0 < number < 1:
        return number
    raise ValueError("should be `full`, a number of examples, or a share between 0 and 1")


class ScoutParams(Frozen):
    """The runs whose predictions on the training set score its examples."""

    of: Name = Field(description="a method; it keeps its predictions after every epoch")
    seeds: Annotated[tuple[Seed, ...], AfterValidator(unique)] = Field(
        (), description="which of its runs, whose scores are averaged; all if left out"
    )
    epoch: Count | None = Field(None, description="the last epoch that counts; the scout's last if left out")


def _scout(value: Any) -> Any:
    return {"of": value} if isinstance(value, str) else value


class SelectParams(Frozen):
    """Which training examples a method sees."""

    by: Name | FilePath = Field(
        "random",
        description="the order they are taken in: `random`, one fixed, nested permutation; `balanced`, the "
        "classes in turn; by scores of the runs in `of`: `el2n`, `forgetting`, `loss`, `confidence`, `herding`; or by "
        "the column `score` of a file that names examples by `idx` (docs/how-to/pruned-data.md)",
    )
    of: Annotated[ScoutParams | None, BeforeValidator(_scout)] = Field(
        None, description="whose predictions give the scores: a method, or a mapping"
    )
    order: Literal["high", "low"] = Field("high", description="of scores: which are taken first")
    empty_classes: Literal["refuse", "accept"] = Field(
        "refuse", description="refuse: scores that leave a class without an example end the run"
    )
    keep: Annotated[Count | float | Literal["full"], BeforeValidator(_full_or_part)] = Field(
        "full", description="a number of examples, a share between 0 and 1, or `full`"
    )
    classes: tuple[str, ...] | None = Field(None, min_length=1, description="the only classes it sees; all if left out")
    drop_classes: tuple[str, ...] = Field((), description="classes it does not see")
    hold_out: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the training set that is kept aside and scored; `seed: best` chooses by it"
    )
    masked_copies: Annotated[Whole, Field(le=1000)] = Field(
        0, description="copies of each example with some tokens masked, answered by the teacher; they have no label"
    )
    masked_share: Annotated[Number, Field(ge=0.001, lt=1)] = Field(
        0.4, description="share of a copy's tokens that is masked, in thousandths"
    )

    @model_validator(mode="before")
    @classmethod
    def _classes_as_text(cls, values: Any) -> Any:
        if isinstance(values, Mapping):  # 3 and "3" name the same class
            lists = {
                key: values[key] for key in ("classes", "drop_classes") if isinstance(values.get(key), list | tuple)
            }
            return {**values, **{key: [str(name) for name in names] for key, names in lists.items()}}
        return values

    @model_validator(mode="after")
    def _one_list(self) -> SelectParams:
        if self.classes and self.drop_classes:
            raise ValueError("give `classes` or `drop_classes`, not both")
        return self

    @property
    def file(self) -> str | None:
        """The file of scores, None if it is not a file that orders the examples."""
        return self.by if Path(self.by).suffix in (".csv", ".tsv", ".jsonl", ".parquet") else None


class TeacherParams(Frozen):
    """Whose answers a method listens to: those of methods, of somebody's model, or in a file."""

    of: Annotated[tuple[Name, ...], AfterValidator(unique)] = Field(
        (), description="a method, or a list of methods: an ensemble"
    )
    seed: Seed | Literal["first", "same", "best"] = Field(
        "first", description="which of its runs; `same`: the student's own seed; `best`: by the held-out examples"
    )
    seeds: Annotated[tuple[Seed, ...], AfterValidator(unique)] = Field((), description="several: an ensemble")
    combine: Literal["mean_probabilities", "mean_logits", "specialists"] = Field(
        "mean_probabilities",
        description="how the answers of an ensemble become one; specialists: of a generalist, named first, and its "
        "specialists",
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
    answers: FilePath | None = Field(
        None, description="a file with an answer for each text; docs/how-to/llm-labels.md has its forms"
    )
    occurrences: Literal["all", "first"] = Field(
        "all", description="tags: an entity that a file names by its text is marked wherever it stands, or once"
    )
    encoder: bool = Field(False, description="the pre-trained encoder: its internals alone")
    average: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        None, description="an average of the student's own weights; a step leaves this share of it"
    )
    control: Literal["shuffled", "uniform"] | None = Field(
        None,
        description="what its answers are replaced by: those `shuffled` among the examples of a label, or `uniform` "
        "smoothing with the same mean entropy",
    )
    weak: Literal["refuse", "accept"] = Field(
        "refuse", description="refuse: a teacher that is no better than the majority class ends the study"
    )

    @model_validator(mode="after")
    def _names_one_source(self) -> TeacherParams:
        sources = ("of", "folder", "hub", "answers", "encoder", "average")
        given = [name for name in sources if getattr(self, name)]
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
        if self.control and (self.average or self.encoder):
            raise ValueError("`control` replaces recorded answers: name a method, a model or a file of answers")
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

    id: Row | None = Field(None, description="the row's number in the tables; the method's name if left out")
    title: Text | None = Field(None, description="the row's name in tables and figures; the method's name if left out")
    learner: dict[str, Any] = Field(default_factory=dict, description="who learns (docs/reference/learners.md)")
    teacher: Annotated[TeacherParams | None, BeforeValidator(_teacher)] = Field(
        None, description="whose answers it listens to: a method, a list, a mapping, `encoder` or `none`"
    )
    weights: dict[Name, Annotated[NotNegative | Schedule, Field()]] = Field(
        default_factory=dict,
        description="terms of the loss and their weights (docs/reference/objectives.md); if left out `soft: 1`, or "
        "`hard: 1` without a teacher",
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
