"""Papers whose claims a study can decide: typed reading of ``papers/<name>.yaml``, and the setting of each.

A claim is decided only in its paper's setting. Everything in which a study differs is listed, never averaged away. A
value without a source that was read is not entered at all: status is [paper] (stated there), [repo] (in its authors'
code) or [secondary] (results from another's account, and printed as such).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, model_validator

from internal_kd.errors import UserError
from internal_kd.fields import Frozen, Number, Text
from internal_kd.params.reading import read_yaml
from internal_kd.params.resolve import Method
from internal_kd.report.cells import Cell, point_text, value_of
from internal_kd.report.results import StudyResults
from internal_kd.report.words import joined
from internal_kd.tasks.glue import GLUE

PAPERS = Path("papers")
Status = Literal["paper", "repo", "secondary"]
Scope = Literal["dev set", "new examples"]
Kind = Literal["task", "data", "encoder", "learner", "size", "training", "rows", "seeds"]
# Where one of these differs, a score of ours and a published one are of different things.
ELSEWHERE: tuple[Kind, ...] = ("task", "data", "encoder", "learner", "size")


class RuleCommon(Frozen):
    """What every rule may say: tasks (the setting's if left out), the point of varied keys, and the question asked."""

    tasks: tuple[Text, ...] = ()
    at: dict[str, Any] = Field(default_factory=dict, description="varied keys and the values that are meant")
    scope: Scope = Field("dev set", description="`dev set`: what a benchmark table asks; `new examples`: beyond it")


class Better(RuleCommon):
    """Every row is better than a baseline on every task, by ``least`` points or more."""

    kind: Literal["better"]
    rows: tuple[Text, ...]
    than: Text
    least: Number = 0.0


class Within(RuleCommon):
    """A row's value, of several the best one's, lies within bounds: a score × 100, or millions of parameters."""

    kind: Literal["within"]
    rows: tuple[Text, ...]
    measure: Literal["score", "encoder_parameters", "total_parameters"] = "score"
    low: Number
    high: Number


class Ratio(RuleCommon):
    """The score of a row, of several the best one's, divided by another's lies within bounds, averaged over tasks.

    With ``above`` both are counted from a third row's score: which share of a gap is closed.
    """

    kind: Literal["ratio"]
    rows: tuple[Text, ...]
    of: Text
    above: Text | None = None
    low: Number
    high: Number = float("inf")


class Order(RuleCommon):
    """Rows from best to worst; of a list in the list the best one counts."""

    kind: Literal["order"]
    rows: Annotated[tuple[Text | tuple[Text, ...], ...], Field(min_length=2)]


class Trend(RuleCommon):
    """Along a varied key from ``start`` to ``end``, the rows' mean lead over a baseline (or their score) changes."""

    kind: Literal["trend"]
    axis: Text
    start: Any
    end: Any
    rows: tuple[Text, ...]
    than: Text | None = None
    direction: Literal["rises", "falls", "stays"]


Rule = Annotated[Better | Within | Ratio | Order | Trend, Field(discriminator="kind")]


class Claim(Frozen):
    """One claim of a paper."""

    claim: Text
    source: Text = Field(description="section, table or equation")
    status: Status
    rule: Rule


class RowSetting(Frozen):
    """What a row's number stands for in the paper."""

    weights: tuple[Text, ...]
    curriculum: Text = "all"
    classification: Text = "top"


class Setting(Frozen):
    """Where a paper's claims can be decided.

    Attributes:
        tasks: its tasks by our names (a GLUE task under any name counts) with their numbers of examples by split.
        rows: what its rows are; a study's row with the same number but other terms is another method.
        students, teacher: keys of a method, as in params.yaml, and the values that the paper gives them.
        teacher_encoder_parameters: of the teacher, without embeddings.
        seeds: finished seeds that every row needs.
    """

    tasks: dict[str, dict[str, int]]
    rows: dict[str, RowSetting] = Field(default_factory=dict)
    students: dict[str, Any] = Field(default_factory=dict)
    teacher: dict[str, Any] = Field(default_factory=dict)
    teacher_encoder_parameters: int | None = None
    seeds: int = 3


class Published(Frozen):
    """Published scores × 100 of a system, by task and metric; ``rows`` are ours of the same kind."""

    system: Text
    source: Text
    status: Status
    rows: tuple[Text, ...]
    scores: dict[str, dict[str, Number]]


class Paper(Frozen):
    """A paper: its claims, the setting in which they can be decided, and published scores to set ours beside."""

    source: Text
    setting: Setting
    claims: tuple[Claim, ...] = ()
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _tasks_are_described(self) -> Paper:
        for claim in self.claims:
            if unknown := [task for task in claim.rule.tasks if task not in self.setting.tasks]:
                raise ValueError(
                    f"claim {claim.claim[:40]!r} names task {unknown[0]!r}, which setting.tasks does not have"
                )
        return self


def read_papers(folder: Path = PAPERS) -> dict[str, Paper]:
    """Return every paper of ``papers/`` by the name of its file.

    Raises:
        UserError: a file has an unknown key or a wrong value.
    """
    papers = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            papers[path.stem] = Paper.model_validate(read_yaml(path))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "entries"
            raise UserError(
                f"{path}: {where}: {problem['msg'].removeprefix('Value error, ')}; correct the entry"
            ) from None
    return papers


class Difference(NamedTuple):
    """One thing in which a study is not in a paper's setting: its kind in a word, and what it would need."""

    kind: Kind
    needed: str


class Case:
    """A study looked at from a paper's setting."""

    def __init__(self, results: StudyResults, paper: Paper) -> None:
        self.results, self.setting = results, paper.setting

    def tasks(self, names: Iterable[str] = ()) -> dict[str, str]:
        """Return the study's tasks by the paper's names: by a GLUE task's own name, else by ours."""
        inputs = self.results.study.tasks
        # Another task that is only called like one of GLUE's is not it.
        own = {task.data.glue or name: name for name, task in inputs.items() if task.data.glue or name not in GLUE}
        return {name: own[name] for name in names or self.setting.tasks if name in own}

    def cell(self, task: str, row: str, at: dict[str, Any]) -> Cell | None:
        """Return a row's cell on a task of the study at a point, by default at the paper's own values."""
        wanted = {
            axis: point_text(value)
            for axis, value in {**self.setting.students, **at}.items()
            if axis in self.results.study.axes
        }
        own = [cell for cell in self.results.cells if cell.task == task and row in (cell.id, cell.method.name)]
        found = [cell for cell in own if all(dict(cell.point)[axis] == value for axis, value in wanted.items())]
        return next(iter(found or (own if len(own) == 1 else [])), None)

    def differences(self, tasks: Sequence[str], rows: Sequence[str], at: dict[str, Any]) -> list[Difference]:
        """Return what keeps these rows on these tasks from being in the paper's setting."""
        own = self.tasks(tasks)
        found = [Difference("task", f"task {name}") for name in tasks if name not in own]
        for name, task in own.items():
            wanted, rows_here = self.setting.tasks[name], self.results.evidence.tasks[task].info.rows
            if any(rows_here.get(split) != number for split, number in wanted.items()):
                sizes = joined(f"{number:,} {split}" for split, number in wanted.items())
                found.append(Difference("data", f"all of {name} ({sizes} examples)"))
        found += self.encoder_differences()
        seeds: list[int] = []
        for row in rows:
            cells = [cell for task in own.values() if (cell := self.cell(task, row, at))]
            if len(cells) < len(own):
                found.append(Difference("rows", f"row {row}"))
            for cell in cells:
                found += self._method_differences(cell, at)
                seeds.append(len(self.results.finished(cell)))
                if len(self.results.finished(cell)) < len(cell.runs):
                    found.append(Difference("seeds", "every planned run"))
        if seeds and min(seeds) < self.setting.seeds:
            found.append(Difference("seeds", f"{self.setting.seeds} seeds of every row (here {min(seeds)})"))
        return list(dict.fromkeys(found))

    def encoder_differences(self) -> list[Difference]:
        """Return a difference unless every finished teacher has the paper's size."""
        wanted = self.setting.teacher_encoder_parameters
        teachers = [cell for cell in self.results.cells if not cell.is_student]
        sizes = {done.record.get("encoder_parameters") for cell in teachers for done in self.results.finished(cell)}
        if wanted is None or sizes == {wanted}:
            return []
        return [Difference("encoder", f"a teacher with {wanted:,} encoder parameters")]

    def _method_differences(self, cell: Cell, at: dict[str, Any]) -> list[Difference]:
        method, found = cell.method, []
        stated = self.setting.students if cell.is_student else self.setting.teacher
        whose = "students'" if cell.is_student else "teacher's"
        for key, value in {**stated, **(at if cell.is_student else {})}.items():
            ours = value_of(method, key)
            if _is_used(method, key) and point_text(ours) != point_text(value):
                kind: Kind = "learner" if key.startswith("learner") else "size" if key == "select.keep" else "training"
                needed = f"{whose} {key.replace('_', ' ')} {point_text(value)} (here {point_text(ours)})"
                found.append(Difference(kind, needed))
        row = self.setting.rows.get(method.id)
        if row is not None and (set(row.weights), row.curriculum, row.classification) != _row_of(method):
            found.append(Difference("rows", f"row {method.id} with {joined(row.weights)}, curriculum {row.curriculum}"))
        return found


def _row_of(method: Method) -> tuple[set[str], str, str]:
    curriculum = method.settings.curriculum if isinstance(method.settings.curriculum, str) else "phases"
    # Without a curriculum the output terms always count.
    return set(method.weights), curriculum, method.settings.classification if curriculum != "all" else "top"


def _is_used(method: Method, key: str) -> bool:
    """Whether a setting has any effect on a method: a temperature without a term that has one has not."""
    if key == "layer_map":
        return bool(method.layer_terms)
    if key == "temperature":
        return any(key in objective.settings for objective in method.objectives.values())
    return True
