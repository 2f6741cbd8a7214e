"""The cells of a study's tables: a method on a task at one point of ``study.vary``; its runs differ in their seed only.

A row of the main table is a method at a point, across tasks. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from internal_kd.params.resolve import Method, read_at
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study

FULL = "full"
# Soft labels alone, and training without a teacher: what rows are compared with unless they name others.
STANDARD, UNTAUGHT = "3.0", "2.0"


@dataclass(frozen=True)
class Cell:
    """A method on a task at one point of ``study.vary``.

    Attributes:
        depth: number of layers; None for a learner without layers, or of an encoder that is not here yet.
        examples: how many training examples it sees, as text: a number, a share, or ``full``.
        point: the varied keys and its values for them, as text.
        runs: its runs, one a seed.
    """

    task: str
    method: Method
    depth: int | None
    examples: str
    point: tuple[tuple[str, str], ...]
    runs: tuple[Run, ...]

    @property
    def id(self) -> str:
        """The row's number."""
        return self.method.id

    @property
    def name(self) -> str:
        """What people call the row: ``3.5 Stacked (SID)``."""
        return self.method.label

    @property
    def is_student(self) -> bool:
        """Whether it is a row to be judged: a run without answers that teaches others is not."""
        return not (self.runs[0].teaches and self.runs[0].answers is None)

    @property
    def row(self) -> tuple[str, ...]:
        """The row: its method and its values of the varied keys."""
        return (self.method.name, *(value for _, value in self.point))

    @property
    def key(self) -> tuple[str, ...]:
        """Task and row."""
        return (self.task, *self.row)

    def columns(self) -> dict[str, Any]:
        """Return what names it in every table."""
        return {
            "task": self.task,
            "id": self.id,
            "method": self.method.name,
            "title": self.method.title,
            "depth": self.depth,
            "examples": self.examples,
            **dict(self.point),
        }


def point_text(value: Any) -> str:
    """Return a varied value as text: ``6``, also of 6.0, ``2,4,6``, ``from=teacher layers=first``."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={point_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(point_text(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "none" if value is None else str(value)


def value_of(method: Method, key: str) -> Any:
    """Return a method's value of a dotted key of params.yaml, such as ``learner.layers`` or ``epochs``."""
    given = method.settings.model_dump(mode="json", by_alias=True)
    found = read_at(given, key)
    # What is not said of a learner has its kind's default.
    return read_at({"learner": method.learner.model_dump(mode="json", by_alias=True)}, key) if found is None else found


def cells_of(study: Study) -> tuple[Cell, ...]:
    """Return every cell, task by task, in the order of the tables; methods stand after their teachers."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in study.runs:
        given = run.method.point.items()
        # What neither the method nor the defaults give has the value of every method.
        values = ((axis, value_of(run.method, axis) if value is None else value) for axis, value in given)
        point = tuple((axis, point_text(value)) for axis, value in values)
        groups.setdefault((run.task, run.method.name, point), []).append(run)
    order = {name: place for place, name in enumerate(study.methods)}
    tasks = {name: place for place, name in enumerate(study.tasks)}
    cells = [
        Cell(task, runs[0].method, runs[0].depth, runs[0].examples, point, tuple(runs))
        for (task, _, point), runs in groups.items()
    ]
    return tuple(sorted(cells, key=lambda cell: (tasks[cell.task], order[cell.method.name])))


def teacher_of(cell: Cell, cells: Iterable[Cell]) -> Cell | None:
    """Return the cell that a row's scores are set against.

    That is its teacher's; for a row without one, that of the task's first method that teaches; a teacher's is itself.
    None if nobody's scores are known, as with answers from a file.
    """
    own = [other for other in cells if other.task == cell.task]
    if cell.runs[0].teachers:
        taught = cell.runs[0].teachers[0].fingerprint
        return next(other for other in own if taught in {run.fingerprint for run in other.runs})
    if cell.runs[0].answers is not None:
        return None
    return next((other for other in own if not other.is_student), None)


def counterpart(cell: Cell, method: str, cells: Iterable[Cell]) -> Cell | None:
    """Return another method's cell at the same task and point, or its only cell on the task."""
    own = [other for other in cells if other.task == cell.task and other.method.name == method]
    same = [other for other in own if other.point == cell.point]
    return next(iter(same or (own if len(own) == 1 else [])), None)


def primary_rows(study: Study) -> tuple[tuple[str, ...], str | None]:
    """Return the study's question: the methods that are judged, and the one they are compared with.

    By default every method with a layer term against row 3.0. A study without such rows asks whether a teacher helps:
    methods that listen to one against those that do not, row 2.0.

    Raises:
        UserError: ``analysis.primary`` names a row that the study does not have.
    """
    given = study.params.analysis.primary
    students = {name: method for name, method in study.methods.items() if name in study.params.requested}
    baseline = study.method_of(given["baseline"], "analysis.primary.baseline") if given.get("baseline") else None
    if given.get("rows"):
        rows = given["rows"] if isinstance(given["rows"], list | tuple) else [given["rows"]]
        chosen = tuple(study.method_of(row, "analysis.primary.rows") for row in rows)
        return chosen, baseline or _with_id(study, STANDARD) or _with_id(study, UNTAUGHT)
    internal = tuple(name for name, method in students.items() if method.layer_terms)
    standard = _with_id(study, STANDARD) or next(
        (name for name, method in students.items() if method.needs_teacher and name not in internal), None
    )
    if internal and (baseline or standard):
        baseline = baseline or standard
        return tuple(name for name in internal if name != baseline), baseline
    baseline = baseline or _with_id(study, UNTAUGHT)
    taught = (name for name, method in students.items() if method.needs_teacher and name != baseline)
    return (tuple(taught), baseline) if baseline else ((), None)


def _with_id(study: Study, number: str) -> str | None:
    return next((name for name, method in study.methods.items() if method.id == number), None)


def baselines_of(study: Study, method: Method) -> tuple[str, ...]:
    """Return what a method is compared with in the appendix: its ``compare_with``, else rows 3.0 and 2.0."""
    named = method.settings.compare_with
    if named is not None:
        return tuple(name for name in named if name in study.methods)
    if method.id == UNTAUGHT:
        return ()  # 2.0 against 3.0 would be 3.0 against 2.0 twice
    found = (_with_id(study, number) for number in (STANDARD, UNTAUGHT))
    return tuple(name for name in found if name is not None and name != method.name)


def shown_point(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the point that figures over methods show: the deepest (or 6-layer) students, most data, first values."""
    students = [cell for cell in cells if cell.is_student]
    point = {}
    for axis in dict.fromkeys(axis for cell in students for axis, _ in cell.point):
        values = list(dict.fromkeys(dict(cell.point)[axis] for cell in students))
        point[axis] = values[0]
        if axis == "learner.layers":
            numbers = [value for value in values if value.isdigit()]
            point[axis] = "6" if "6" in numbers else max(numbers, key=int, default=values[0])
        if axis == "select.keep":
            point[axis] = FULL if FULL in values else max(values, key=_number)
    return point


def at_shown_point(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return the cells at the shown point, and those of methods with a single cell on a task, such as teachers."""
    point, number = shown_point(cells), Counter((cell.task, cell.method.name) for cell in cells)
    return tuple(c for c in cells if dict(c.point) == point or number[c.task, c.method.name] == 1)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("-inf")
