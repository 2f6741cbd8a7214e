"""The paper's setting, and what keeps a study from it.

A claim of the paper is decided only where the study has its tasks whole, its encoder, depth and training-set sizes, its
training and its rows, and enough finished seeds of each. Everything that differs is listed, never averaged away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from internal_kd.analysis.cells import FULL, TEACHER_ID, joined
from internal_kd.analysis.predictions import Evidence
from internal_kd.analysis.resampling import joint_interval
from internal_kd.analysis.statistics import Arm, Comparison
from internal_kd.analysis.tables import base_metric
from internal_kd.artefacts import TeacherRun
from internal_kd.fields import Frozen
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER

Arms = Mapping[tuple[str, ...], Arm]
Kind = Literal["task", "data", "encoder", "depth", "size", "length", "training", "rows", "seeds"]
# Where one of these differs, a score of ours and one of the paper's are of different things.
ELSEWHERE: tuple[Kind, ...] = ("task", "data", "encoder", "depth", "size")


class Terms(Frozen):
    """What a row's id stands for: its objectives and its curriculum."""

    terms: tuple[str, ...]
    curriculum: str = "all"
    classification: str = "top"


class Setting(Frozen):
    """Where the paper's claims can be decided; ``examples`` are (training, dev) per task.

    ``teacher`` and ``student`` name parameters of params.yaml and the values that the paper states for them.
    """

    glue: tuple[str, ...]
    metrics: dict[str, tuple[str, ...]]
    examples: dict[str, tuple[int, int]]
    rows: dict[str, Terms]
    teacher_encoder_parameters: int
    student_layers: int
    max_length: int
    teacher: dict[str, float]
    student: dict[str, float | str]
    minimum_seeds: int


@dataclass(frozen=True)
class Lack:
    """One thing in which a study is not the paper's: its kind in a word, and what is needed, in words."""

    kind: Kind
    needed: str


@dataclass(frozen=True)
class Case:
    """All that a claim is judged by."""

    study: Study
    setting: Setting
    arms: Arms
    evidence: Evidence
    comparisons: Sequence[Comparison] = ()

    def main_metric(self, task: str) -> str:
        """Return a task's first metric."""
        return self.evidence.tasks[task].scored[0][0]

    def title(self, task: str) -> str:
        """Return a task's title."""
        return self.evidence.tasks[task].title

    def tasks(self, glue: Iterable[str]) -> list[str]:
        """Return the study's names of those GLUE tasks that it has."""
        own = {tokens.data.glue: name for name, tokens in self.study.tasks.items() if tokens.data.glue}
        return [own[name] for name in glue if name in own]

    @property
    def depth(self) -> int:
        """The paper's depth; where the study lacks it, the study's deepest students."""
        depths = self.study.params.study.depths
        return self.setting.student_layers if self.setting.student_layers in depths else max(depths)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The study's training-set sizes, smallest first."""
        examples = self.study.params.study.examples
        return tuple(str(n) for n in sorted(examples, key=lambda n: float("inf") if n == FULL else float(n)))

    @property
    def place(self) -> str:
        """Where the evidence is from, in words: depth and largest size."""
        return f"{self.depth} layers, {size_words(self.sizes[-1])}"

    def arms_of(self, task: str, rows: Iterable[str], examples: str | None = None, metric: str = "") -> list[Arm]:
        """Return the finished arms of rows at ``depth`` and a size (the largest); the teacher has its own depth."""
        size, wanted, metric = examples or self.sizes[-1], set(rows), metric or self.main_metric(task)
        return [
            arm
            for arm in self.arms.values()
            if (arm.cell.task, arm.metric) == (task, metric)
            and arm.cell.id in wanted
            and (arm.cell.is_teacher or (arm.cell.depth, arm.cell.examples) == (self.depth, size))
            and arm.defined
        ]

    def lacks(self, glue: Sequence[str], rows: Sequence[str], sizes: Sequence[str] = (FULL,)) -> list[Lack]:
        """Return what keeps these rows on these tasks from being in the paper's setting, where it is not."""
        taught = [row for row in rows if row != TEACHER_ID]
        found = [*self._task_lacks(glue), *self.encoder_lacks()]
        if taught and self.setting.student_layers not in self.study.params.study.depths:
            found.append(Lack("depth", f"{self.setting.student_layers}-layer students"))
        absent = [size for size in sizes if size not in self.sizes] if taught else []
        found += [Lack("size", f"students of {size_words(size)}") for size in absent]
        found += [*self._training_lacks(glue, taught), *self._row_lacks(taught)]
        return [*found, *self._seed_lacks(glue, rows, sizes)]

    def encoder_lacks(self) -> list[Lack]:
        """Return a lack unless every finished teacher is of the paper's size."""
        runs = [done for done in self.evidence.finished.values() if isinstance(done.run, TeacherRun)]
        if {done.record.get("encoder_parameters") for done in runs} == {self.setting.teacher_encoder_parameters}:
            return []
        return [Lack("encoder", f"teachers with {self.setting.teacher_encoder_parameters:,} encoder parameters")]

    def _task_lacks(self, glue: Sequence[str]) -> list[Lack]:
        found = []
        if missing := [name for name in glue if not self.tasks([name])]:
            found.append(Lack("task", f"the GLUE task{'s' if len(missing) > 1 else ''} {joined(missing)}"))
        for name in glue:
            for task in self.tasks([name]):
                train, dev = self.setting.examples[name]
                rows = self.evidence.tasks[task].rows
                if (rows.get("train"), rows.get("dev")) != (train, dev):
                    whole = f"all of {self.title(task)} ({train:,} training and {dev:,} dev examples)"
                    found.append(Lack("data", whole))
        return found

    def _training_lacks(self, glue: Sequence[str], rows: Sequence[str]) -> list[Lack]:
        tasks = set(self.tasks(glue))
        lengths = [self.study.tasks[task].max_length for task in tasks]
        teachers = [run.training.model_dump() for run in self.study.teachers if run.task in tasks]
        students = [r.method.identity() for r in self.study.students if r.task in tasks and r.method.id in rows]
        return [
            *_differing("length", "", {"max_length": self.setting.max_length}, [{"max_length": n} for n in lengths]),
            *_differing("training", "teachers' ", self.setting.teacher, teachers),
            *_differing("training", "students' ", self.setting.student, students),
        ]

    def _row_lacks(self, rows: Sequence[str]) -> list[Lack]:
        found, own = [], {method.id: method for method in self.study.methods.values()}
        if missing := [row for row in rows if row not in own]:
            found.append(Lack("rows", f"row{'s' if len(missing) > 1 else ''} {joined(missing)}"))
        for row in (row for row in rows if row in own):
            method, terms = own[row], self.setting.rows[row]
            climbs = method.curriculum != "all"  # without a curriculum the classification loss is always there
            said = (set(method.weights), method.curriculum, method.classification if climbs else "top")
            if said != (set(terms.terms), terms.curriculum, terms.classification):
                found.append(Lack("rows", f"row {row} of {joined(terms.terms)} with curriculum {terms.curriculum!r}"))
        return found

    def _seed_lacks(self, glue: Sequence[str], rows: Sequence[str], sizes: Sequence[str]) -> list[Lack]:
        """Count the finished seeds of every cell that the rows have, one metric standing for all."""
        tasks = self.tasks(glue)
        cells = {
            arm.cell.key: (len(arm.seeds), len(arm.cell.runs))
            for arm in self.arms.values()
            if arm.cell.task in tasks
            and arm.cell.id in rows
            and (arm.cell.is_teacher or (arm.cell.depth == self.setting.student_layers and arm.cell.examples in sizes))
        }
        found, minimum = [], self.setting.minimum_seeds
        if cells and (fewest := min(done for done, _ in cells.values())) < minimum:
            found.append(Lack("seeds", f"at least {minimum} finished seeds of every row on every task (here {fewest})"))
        done, wanted = (sum(counts) for counts in zip(*cells.values(), strict=True)) if cells else (0, 0)
        if done < wanted:
            found.append(Lack("seeds", f"every wanted run (here {done} of {wanted})"))
        return found


def size_words(size: str) -> str:
    """Return a training-set size in words."""
    return "the full training set" if size == FULL else f"{int(size):,} training examples"


def best_of(arms: Sequence[Arm]) -> Arm:
    """Return the arm with the best mean."""
    return max(arms, key=lambda arm: (arm.mean or 0.0) if _higher(arms) else -(arm.mean or 0.0))


def interval_of_best(arms: Sequence[Arm]) -> tuple[float, float] | None:
    """Return the 95 % interval of the best arm's mean, the best chosen anew in every resample.

    The arms are compared on the examples that the best is scored on: with the winner held fixed an interval would
    leave out what choosing it adds.
    """
    # fmax and fmin pass over an arm that a resample leaves undefined.
    choose = np.fmax if _higher(arms) else np.fmin
    return joint_interval(lambda *means: choose.reduce(means), [arm.spread for arm in arms])


def _higher(arms: Sequence[Arm]) -> bool:
    return HIGHER_IS_BETTER[base_metric(arms[0].metric)]


def needs(lacks: Sequence[Lack]) -> str:
    """Return what the paper's setting needs, as a sentence."""
    return f"Not the paper's setting: needs {joined([lack.needed for lack in lacks])}."


def _differing(
    kind: Kind, whose: str, stated: Mapping[str, float | str], found: Sequence[Mapping[str, Any]]
) -> list[Lack]:
    lacks = []
    for name, value in stated.items():
        # A setting that a method does not use is no part of its identity, and cannot differ.
        if others := sorted({_text(own[name]) for own in found if own.get(name, value) != value}):
            lacks.append(Lack(kind, f"{whose}{name.replace('_', ' ')} {_text(value)} (here {joined(others)})"))
    return lacks


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
