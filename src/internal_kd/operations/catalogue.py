"""Everything a study rests on: each artefact's inputs, its name on the command line and what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TypeVar

from internal_kd.artefacts import (
    Artefact,
    EncoderFiles,
    InitialStudent,
    StudentRun,
    TaskData,
    TeacherOutputs,
    TeacherRun,
    TokenizedTask,
)
from internal_kd.errors import UserError, nearest
from internal_kd.records import WEIGHTS, problem_with
from internal_kd.study import Study

Value = TypeVar("Value")

WITHOUT_WEIGHTS = f"{WEIGHTS} is missing"
MODEL_FILES = ("model/config.json", WEIGHTS)


def inputs_of(artefact: Artefact) -> tuple[Artefact, ...]:
    """Return what a step reads, as artefacts."""
    if isinstance(artefact, TokenizedTask):
        return (artefact.data, artefact.encoder)
    if isinstance(artefact, TeacherRun):
        return (artefact.encoder, artefact.tokens.data, artefact.tokens)
    if isinstance(artefact, TeacherOutputs):
        return (artefact.teacher.tokens, artefact.teacher)
    if isinstance(artefact, InitialStudent):
        return (artefact.encoder, artefact.teacher) if artefact.teacher else (artefact.encoder,)
    if isinstance(artefact, StudentRun):
        taught = (artefact.outputs,) if artefact.outputs else ()
        return (artefact.encoder, artefact.tokens.data, artefact.tokens, artefact.initial, *taught)
    return ()


def lack_of(artefact: Artefact) -> str | None:
    """Return None for an artefact another step can read, else what is wrong with it.

    A teacher without its weights is a complete run, but nothing can be recorded from it.
    """
    if problem := problem_with(artefact):
        return problem
    if isinstance(artefact, TeacherRun) and not (artefact.folder / WEIGHTS).is_file():
        return WITHOUT_WEIGHTS
    return None


def lacking(
    runs: Iterable[Artefact], lack: Callable[[Artefact], str | None] = lack_of
) -> dict[str, tuple[Artefact, str]]:
    """Return what has to be made for ``runs``, themselves included, and what is wrong with each, by fingerprint."""
    found: dict[str, tuple[Artefact, str]] = {}
    waiting = list(runs)
    while waiting:
        artefact = waiting.pop()
        if artefact.fingerprint not in found and (problem := lack(artefact)):
            found[artefact.fingerprint] = (artefact, problem)
            waiting.extend(inputs_of(artefact))
    return found


def files_read(artefact: Artefact) -> list[str]:
    """Return the files of an artefact that the steps after it wait for."""
    models = [str(artefact.folder / name) for name in MODEL_FILES] if isinstance(artefact, TeacherRun) else []
    return [str(artefact.marker), *models]


class Catalogue:
    """All artefacts of a study, found by fingerprint or by the coordinates a person uses."""

    def __init__(self, study: Study) -> None:
        """Remember the study; its artefacts are walked when first asked for."""
        self.study = study

    @cached_property
    def by_fingerprint(self) -> dict[str, Artefact]:
        """Every artefact that a wanted run needs, and the runs themselves."""
        found: dict[str, Artefact] = {}
        waiting: list[Artefact] = list(self.study.runs)
        while waiting:
            artefact = waiting.pop()
            if artefact.fingerprint not in found:
                found[artefact.fingerprint] = artefact
                waiting.extend(inputs_of(artefact))
        return found

    def tokens(self, task: str) -> TokenizedTask:
        """Return a task's tokens."""
        return self.study.tasks[_wanted("task", task, self.study.tasks)]

    def data(self, task: str) -> TaskData:
        """Return a task's examples."""
        return self.tokens(task).data

    def encoder(self) -> EncoderFiles:
        """Return the study's encoder."""
        return next(iter(self.study.tasks.values())).encoder

    def teacher(self, task: str, seed: int) -> TeacherRun:
        """Return a task's teacher by seed."""
        self.tokens(task)
        teachers = {run.seed: run for run in self.study.teachers if run.task == task}
        return teachers[_wanted("teacher seed", seed, teachers)]

    def outputs(self, task: str) -> TeacherOutputs:
        """Return what is recorded of a task's teacher.

        Raises:
            UserError: no method of the study learns from a teacher.
        """
        self.tokens(task)
        for run in self.study.students:
            if run.task == task and run.outputs is not None:
                return run.outputs
        raise UserError(f"no method of study {self.study.name!r} learns from a teacher: nothing is to be recorded")

    def student(self, task: str, depth: int, method: str, seed: int, examples: int | str | None = None) -> StudentRun:
        """Return one student; ``examples`` None takes the first training-set size."""
        self.tokens(task)
        study = self.study.params.study
        _wanted("depth", depth, study.depths)
        _wanted("method", method, study.methods)
        _wanted("seed", seed, study.seeds)
        size = study.examples[0] if examples is None else _wanted("training-set size", examples, study.examples)
        sought = (task, depth, method, seed, size)
        for run in self.study.students:
            if (run.task, run.depth, run.method.name, run.seed, run.examples) == sought:
                return run
        raise UserError(f"study {self.study.name!r} wants no student {sought}")

    def coordinates(self, artefact: Artefact) -> dict[str, str]:
        """Return the options that name an artefact on the command line."""
        if isinstance(artefact, EncoderFiles):
            return {}
        if isinstance(artefact, TaskData):
            return {"task": artefact.name}
        if isinstance(artefact, TeacherRun):
            return {"task": artefact.task, "seed": str(artefact.seed)}
        if isinstance(artefact, InitialStudent):
            run = self._first_user[artefact.fingerprint]
            named = {"task": run.task, "depth": str(run.depth), "method": run.method.name}
            return {**named, "seed": str(run.seed)}
        if isinstance(artefact, StudentRun):
            size = str(artefact.examples)
            named = {"task": artefact.task, "depth": str(artefact.depth), "method": artefact.method.name}
            return {**named, "examples": size, "seed": str(artefact.seed)}
        assert isinstance(artefact, TokenizedTask | TeacherOutputs)
        return {"task": artefact.task}

    @cached_property
    def _first_user(self) -> dict[str, StudentRun]:
        # Many students start from the same weights: any of them names those.
        return {run.initial.fingerprint: run for run in reversed(self.study.students)}

    def command(self, artefact: Artefact) -> str:
        """Return the command that makes an artefact by hand."""
        options = [f"--{name} {value}" for name, value in self.coordinates(artefact).items()]
        return " ".join(["internal-kd", artefact.step.replace("_", "-"), *options])

    def check_inputs(self, artefact: Artefact) -> None:
        """Raise a UserError that names the first input that cannot be read, and the command that makes it."""
        for needed in inputs_of(artefact):
            if lack := lack_of(needed):
                state = "is missing" if lack == "missing" else f"is broken: {lack}"
                raise UserError(f"{needed.marker} {state}; make it with `{self.command(needed)}`")


def _wanted(what: str, value: Value, known: Iterable[object]) -> Value:
    known = list(known)
    if value not in known:
        close = nearest(str(value), [str(item) for item in known])
        wanted = ", ".join(str(item) for item in known)
        raise UserError(f"unknown {what} {str(value)!r}{close}; the study wants: {wanted}")
    return value
