"""A whole study: which runs are wanted, from what, trained how, on which machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from internal_kd.errors import nearest
from internal_kd.params.sources import DataParams, EncoderParams, GlueEntry, TaskEntry
from internal_kd.params.training import MethodParams, StudentParams, TeacherParams
from internal_kd.fields import Count, Frozen, Name, Positive, Seed, Share, Whole, unique
from internal_kd.tasks import GLUE

Depth = Annotated[Count, Field(le=1000)]


class StudyParams(Frozen):
    """Which runs are wanted: tasks x methods x depths x examples x seeds."""

    name: Name = Field(description="the results go to results/<name>/")
    tasks: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="entries of `tasks`; all of them when left out"
    )
    methods: Annotated[tuple[Name, ...], AfterValidator(unique)] = Field(
        description="entries of `methods`, in the order of the table; the teacher's row is always there"
    )
    depths: Annotated[tuple[Depth, ...], AfterValidator(unique)] = Field(min_length=1, description="student layers")
    examples: Annotated[tuple[Count | Literal["full"], ...], AfterValidator(unique)] = Field(
        ("full",), min_length=1, description="training-set sizes for students: nested subsets, or `full`"
    )
    seeds: Annotated[tuple[Seed, ...], AfterValidator(unique)] = Field(min_length=1, description="student seeds")


class TokenParams(Frozen):
    """Tokenisation."""

    max_length: Annotated[Count, Field(ge=4)] = Field(64, description="longest sequence, special tokens included")


class AnalysisParams(Frozen):
    """How tables weigh what they show; moves no run."""

    distillation_alpha: Share = Field(
        0.5, description="weight of the size in the distillation score; the rest is that of the accuracy lost"
    )


class ResourceParams(Frozen):
    """What a scheduler is told about one kind of job; memory and time grow with every retry."""

    gpu: Annotated[Whole, Field(le=16)] = 0
    mem_mb: Count = 4000
    runtime: Count = Field(30, description="minutes")
    threads: Count = 1


class MachineParams(Frozen):
    """Facts about the machine and habits of the run; nothing here changes a result."""

    jobs_per_gpu: Count = 1
    disk_budget_gb: Positive = Field(
        50.0,
        description="for the teacher's recorded attention maps of one task; further layers are computed in training",
    )
    checkpoint_minutes: Positive = 10.0
    keep_models: Literal["all", "first-seed", "none"] = Field("all", description="student weights that are kept")
    light: ResourceParams = ResourceParams()
    teacher: ResourceParams = ResourceParams(gpu=1, mem_mb=12000, runtime=240)
    recording: ResourceParams = ResourceParams(gpu=1, mem_mb=12000, runtime=120)
    student: ResourceParams = ResourceParams(gpu=1, mem_mb=12000, runtime=480)


class Params(Frozen):
    """A whole study."""

    study: StudyParams
    data: DataParams = DataParams()
    tasks: dict[Name, TaskEntry] = Field(min_length=1)
    encoder: EncoderParams
    tokens: TokenParams = TokenParams()
    teacher: TeacherParams
    student: StudentParams
    methods: dict[Name, MethodParams] = Field(min_length=1)
    analysis: AnalysisParams = AnalysisParams()
    machine: MachineParams = MachineParams()

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
        for task in self.study.tasks or ():
            if task not in self.tasks:
                raise ValueError(
                    f"study.tasks: unknown task {task!r}{nearest(task, list(self.tasks))}; entries of `tasks`: "
                    f"{', '.join(self.tasks)}"
                )
        for name in self.study.methods:
            if name not in self.methods:
                raise ValueError(f"study.methods: unknown method {name!r}{nearest(name, list(self.methods))}")
        self._rows_are_told_apart()
        if self.study.name == "runs":
            raise ValueError("study.name: results/runs/ holds the runs of all studies: choose another name")
        if "teacher" in self.methods:
            raise ValueError("methods: 'teacher' is the name of row 1.0: choose another name")
        for name, entry in self.tasks.items():
            if isinstance(entry, GlueEntry) and (entry.glue or name) not in GLUE:
                raise ValueError(
                    f"tasks.{name}: {name!r} is no GLUE task{nearest(name, list(GLUE))}; say `glue:` or another "
                    "`source:` (files, generator)"
                )
        return self

    def _rows_are_told_apart(self) -> None:
        rows: dict[str, str] = {"1.0": "teacher"}
        for name in self.study.methods:
            if (first := rows.setdefault(self.methods[name].id, name)) != name:
                raise ValueError(
                    f"methods.{name}.id: {self.methods[name].id!r} is the row of {first!r} already: choose another id"
                )
        for name, method in self.methods.items():
            for other in method.compare_with or ():
                if other == name or other not in self.methods:
                    others = [known for known in self.methods if known != name]
                    raise ValueError(
                        f"methods.{name}.compare_with: unknown method {other!r}{nearest(other, others)}; other "
                        f"methods: {', '.join(others)}"
                    )
