"""A complete study: which runs are requested, from what, trained how, on which machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from internal_kd.errors import nearest
from internal_kd.fields import Count, FilePath, Frozen, Name, Positive, Seed, Share, Whole, unique
from internal_kd.params.data import DataParams, EncoderParams, GlueEntry, TaskEntry
from internal_kd.params.method import MethodParams
from internal_kd.tasks.glue import GLUE

RESERVED = ("encoder", "none", "nothing", "random")
# Keys of a method that name its row and its runs, and change no training.
NAMING = ("id", "title", "seeds", "compare_with")


def _given(value: Any) -> Any:
    return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


class StudyParams(Frozen):
    """Which runs are requested: tasks x methods x varied values x seeds."""

    name: Name = Field(description="the results go to results/<name>/")
    tasks: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="entries of `tasks`; all of them if left out"
    )
    methods: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="entries of `methods`, in the order of the tables; all of them if left out"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        description="one training each of every method, task and varied value"
    )
    vary: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1), AfterValidator(unique)]], BeforeValidator(_given)
    ] = Field(
        default_factory=dict,
        description="values of keys of a method, such as `learner.layers: [3, 6]`; methods that teach others, and "
        "methods that give the key themselves, keep their own; null in an overlay: not varied after all",
        json_schema_extra=lambda schema: cast("Any", schema)["additionalProperties"].update(type=["array", "null"]),
    )


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class AnalysisParams(Frozen):
    """How the results are judged and shown; changes no run."""

    primary: dict[Literal["rows", "baseline"], Any] = Field(
        default_factory=dict,
        description="the study's question: `rows` against `baseline`; every row with a layer term against row 3.0 if "
        "left out",
    )
    papers: Annotated[tuple[Name, ...], BeforeValidator(_listed)] | None = Field(
        None, description="files of papers/ whose claims are judged; those about the study's tasks and rows if left out"
    )
    alpha: Annotated[Share, Field(gt=0, lt=1)] = Field(0.05, description="level of the tests after Holm's correction")
    margin: Positive = Field(1.0, description="points within which two methods count as equal")
    distillation_alpha: Share = Field(
        0.5, description="weight of the size in the distillation score; the rest is that of the accuracy lost"
    )


class ResourceParams(Frozen):
    """What a scheduler has to know of one kind of job; memory and time grow with every retry."""

    gpu: Annotated[Whole, Field(le=16)] = 0
    mem_mb: Count = 4000
    runtime: Count = Field(30, description="minutes")
    threads: Count = 1


class MachineParams(Frozen):
    """Facts about the machine and habits of the run; nothing here changes a result."""

    jobs_per_gpu: Count = 1
    disk_budget_gb: Positive = Field(
        50.0, description="for the recorded answers of one teacher on one task; the rest is computed while training"
    )
    checkpoint_minutes: Positive = 10.0
    keep_models: Literal["all", "first-seed", "none"] = Field(
        "all", description="weights that are kept of the runs that teach nobody"
    )
    score_epochs: bool = Field(
        True, description="dev scores after every epoch; `false`: at the end alone, which makes short trainings shorter"
    )
    light: ResourceParams = ResourceParams()
    teacher: ResourceParams = ResourceParams(gpu=1, mem_mb=12000, runtime=240)
    recording: ResourceParams = ResourceParams(gpu=1, mem_mb=12000, runtime=120)
    student: ResourceParams = ResourceParams(gpu=1, mem_mb=12000, runtime=480)


class Params(Frozen):
    """A complete study."""

    study: StudyParams
    data: DataParams = DataParams()
    tasks: dict[Name, TaskEntry] = Field(min_length=1)
    encoder: EncoderParams
    defaults: MethodParams = MethodParams()
    methods: dict[Name, MethodParams] = Field(min_length=1)
    analysis: AnalysisParams = AnalysisParams()
    machine: MachineParams = MachineParams()
    plugins: tuple[FilePath, ...] = Field(
        (), description="Python files with objectives, learners, curricula or metrics of your own"
    )

    @property
    def requested(self) -> tuple[str, ...]:
        """The methods that the study asks for, without those that only teach them."""
        return self.study.methods or tuple(self.methods)

    @model_validator(mode="before")
    @classmethod
    def _entries_may_be_bare(cls, values: Any) -> Any:
        # `rte:` and `rte: {}` both mean the GLUE task of that name.
        if isinstance(values, Mapping) and isinstance(values.get("tasks"), Mapping):
            tasks = {
                k: {"source": "glue", **(v or {})} if v is None or isinstance(v, Mapping) else v
                for k, v in values["tasks"].items()
            }
            values = {**values, "tasks": tasks}
        return values

    @model_validator(mode="after")
    def _names_agree(self) -> Params:
        if self.study.name == "runs":
            raise ValueError("study.name: results/runs/ holds the runs of all studies: choose another name")
        for kind, known in (("tasks", list(self.tasks)), ("methods", list(self.methods))):
            for name in getattr(self.study, kind) or ():
                if name not in known:
                    raise ValueError(
                        f"study.{kind}: unknown {kind[:-1]} {name!r}{nearest(name, known)}; entries of `{kind}`: "
                        f"{', '.join(known)}"
                    )
        for name in self.methods:
            if name in RESERVED:
                raise ValueError(
                    f"methods: {name!r} has a meaning of its own as a teacher or as first weights; rename it"
                )
        for name, entry in self.tasks.items():
            if isinstance(entry, GlueEntry) and (entry.glue or name) not in GLUE:
                raise ValueError(
                    f"tasks.{name}: {name!r} is not a GLUE task{nearest(name, list(GLUE))}; give `glue:` or another "
                    "`source:` (files, images, generator)"
                )
            for method in entry.methods:
                if method not in self.methods:
                    raise ValueError(
                        f"tasks.{name}.methods: unknown method {method!r}{nearest(method, list(self.methods))}"
                    )
        for axis in self.study.vary:
            if axis.partition(".")[0] not in MethodParams.model_fields:
                near = nearest(axis, list(MethodParams.model_fields))
                raise ValueError(f"study.vary: {axis!r} is not a key of a method{near}")
            if axis in NAMING:
                raise ValueError(f"study.vary: {axis!r} changes no training; vary another key, or give `study.seeds`")
        return self

    @model_validator(mode="after")
    def _rows_are_told_apart(self) -> Params:
        rows: dict[str, str] = {}
        for name in self.requested:
            row = self.methods[name].id or name
            if (first := rows.setdefault(row, name)) != name:
                raise ValueError(f"methods.{name}.id: {row!r} is the row of {first!r} already: choose another id")
        for name, method in self.methods.items():
            for other in method.compare_with or ():
                if other == name or other not in self.methods:
                    others = [known for known in self.methods if known != name]
                    raise ValueError(
                        f"methods.{name}.compare_with: unknown method {other!r}{nearest(other, others)}; other "
                        f"methods: {', '.join(others)}"
                    )
        return self
