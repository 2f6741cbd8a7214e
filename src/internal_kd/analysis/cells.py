"""The cells of a study's tables: which runs belong together, in the order of the rows.

A cell is one method at one depth and one training-set size on one task; its runs differ only in their seed. The
teacher is row 1.0 of every task. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from internal_kd.artefacts import EncoderFiles, Run, StudentRun, TeacherRun
from internal_kd.study import Study

TEACHER = "teacher"
TEACHER_ID = "1.0"
TEACHER_TITLE = "Teacher"
FULL = "full"

# Standard distillation and fine-tuning without a teacher: what a method is held against unless it names others.
STANDARD = "3.0"
UNTAUGHT = "2.0"


@dataclass(frozen=True)
class Cell:
    """One method on one task. ``depth`` is None only for a teacher whose configuration is nowhere to be read.

    ``baselines`` are the methods it is held against, ``internal`` says whether it learns the teacher's layers.
    """

    task: str
    id: str
    method: str
    title: str
    depth: int | None
    examples: str
    runs: tuple[Run, ...]
    baselines: tuple[str, ...] = ()
    internal: bool = False

    @property
    def is_teacher(self) -> bool:
        """Whether this is row 1.0."""
        return self.method == TEACHER

    @cached_property
    def row(self) -> tuple[str, str, str]:
        """Method, depth and examples as text: what a row of the main table stands for across tasks."""
        return (self.method, "" if self.depth is None else str(self.depth), self.examples)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Task, method, depth and examples as text."""
        return (self.task, *self.row)


def cells_of(study: Study) -> tuple[Cell, ...]:
    """Return every wanted cell: task by task, the teacher first, then the students in the study's order."""
    layers = teacher_layers(study)
    cells: list[Cell] = []
    for task in study.tasks:
        teachers = tuple(run for run in study.teachers if run.task == task)
        cells.append(Cell(task, TEACHER_ID, TEACHER, TEACHER_TITLE, layers, FULL, teachers))
        students: dict[tuple[str, int, str], list[StudentRun]] = {}
        for run in study.students:
            if run.task == task:
                students.setdefault((run.method.name, run.depth, str(run.examples)), []).append(run)
        for (method, depth, examples), runs in students.items():
            first = runs[0].method
            cells.append(
                Cell(
                    task, first.id, method, first.title, depth, examples, tuple(runs), baselines_of(study, method),
                    bool(first.layer_terms),
                )
            )  # fmt: skip
    return tuple(cells)


def baselines_of(study: Study, method: str) -> tuple[str, ...]:
    """Return the study's methods that a method is held against: its ``compare_with``, else rows 3.0 and 2.0."""
    named = study.params.methods[method].compare_with
    if named is not None:
        return tuple(name for name in named if name in study.methods)
    if study.methods[method].id == UNTAUGHT:
        return ()  # row 2.0 against 3.0 would say 3.0 against 2.0 twice
    by_id = {other.id: name for name, other in study.methods.items()}
    return tuple(by_id[id] for id in (STANDARD, UNTAUGHT) if id in by_id and by_id[id] != method)


def cell_of_run(run: Run, layers: int | None) -> tuple[str, str, str, int | None, str]:
    """Return a run's (task, id, method, depth, examples)."""
    if isinstance(run, StudentRun):
        return (run.task, run.method.id, run.method.name, run.depth, str(run.examples))
    return (run.task, TEACHER_ID, TEACHER, layers, FULL)


def label_of(run: Run) -> str:
    """Return a run's name for people."""
    if isinstance(run, StudentRun | TeacherRun):
        return run.label
    return f"{run.task} | s{run.seed}"


def teacher_layers(study: Study) -> int | None:
    """Return the teacher's number of layers: stated, or read from the encoder's configuration, or None."""
    if study.params.encoder.layers is not None:
        return study.params.encoder.layers
    encoder: EncoderFiles = next(iter(study.tasks.values())).encoder
    for folder in (encoder.folder, encoder.path):
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8")) if folder else {}
        except (OSError, ValueError):
            continue
        layers = config.get("num_hidden_layers", config.get("n_layers")) if isinstance(config, dict) else None
        if isinstance(layers, int):
            return layers
    return None


def seeds_text(finished: int, wanted: int) -> str:
    """Return ``5`` when every seed is there and ``3 of 5`` when some are missing."""
    return str(wanted) if finished == wanted else f"{finished} of {wanted}"


def joined(names: Sequence[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
