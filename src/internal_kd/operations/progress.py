"""How far a study is: what is done, running, broken and left, from files alone, and how long the rest may take."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from internal_kd.artefacts import Run, StudentRun, TeacherOutputs
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.identity import WORK
from internal_kd.operations.costs import Forecast, Measured, read_measured
from internal_kd.processes import is_alive
from internal_kd.records import problem_with, read_record
from internal_kd.study import Study

PROGRESS = WORK / "progress"
# A training reports every few seconds; one on another machine that has been silent this long is taken for dead.
SILENCE = timedelta(minutes=15)


@dataclass(frozen=True)
class RunningRun:
    """A training under way. ``share`` is how much of it is done, 0 to 1.

    Of that, ``resumed`` was done already when the process began that has worked on it for ``elapsed`` seconds.
    """

    fingerprint: str
    label: str
    epoch: int
    epochs: int
    share: float
    resumed: float
    elapsed: float

    @property
    def left(self) -> float | None:
        """Seconds it still needs, None before the process's first step."""
        done_here = self.share - self.resumed
        return self.elapsed * (1 - self.share) / done_here if done_here > 0 else None

    def __str__(self) -> str:
        left = "" if self.left is None else f", {duration(self.left)} left"
        return f"{self.label}: epoch {self.epoch} of {self.epochs}, {100 * self.share:.0f} %{left}"


def running_runs(folder: Path = PROGRESS) -> dict[str, RunningRun]:
    """Return the trainings that are alive, by fingerprint; what a killed one left behind does not count."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            values = read_mapping(path)
            if _is_alive(values):
                found[str(values["fingerprint"])] = _running(values)
        except (UserError, KeyError, TypeError, ValueError):
            continue  # removed or replaced meanwhile
    return found


def _is_alive(values: dict[str, Any]) -> bool:
    if values["host"] == socket.gethostname():
        return is_alive(int(values["pid"]), str(values["process"]))
    return datetime.now(UTC) - datetime.fromisoformat(values["updated"]) < SILENCE


def _running(values: dict[str, Any]) -> RunningRun:
    started, updated = (datetime.fromisoformat(values[key]) for key in ("started", "updated"))
    # A process that has run since before resumed_at was told says nothing of it.
    at, steps = (values.get("resumed_at", 0), values["step"]), values["steps"]
    resumed, share = (min(1.0, step / steps) if steps else 0.0 for step in at)
    elapsed = (updated - started).total_seconds()
    return RunningRun(
        values["fingerprint"], values["label"], values["epoch"], values["epochs"], share, resumed, elapsed
    )


@dataclass(frozen=True)
class StudyState:
    """A study's runs by what has become of them. ``measured`` holds what finished runs say of their time."""

    study: Study
    done: tuple[Run, ...]
    broken: tuple[tuple[Run, str], ...]
    running: tuple[RunningRun, ...]
    left: tuple[Run, ...]
    measured: dict[str, Measured]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return not (self.broken or self.running or self.left)

    @property
    def waiting(self) -> tuple[Run, ...]:
        """The runs that nobody trains yet."""
        return (*self.left, *(run for run, _ in self.broken))

    @property
    def unrecorded(self) -> tuple[TeacherOutputs, ...]:
        """The teachers' outputs that waiting students need and that are not there."""
        needed = {
            run.outputs.fingerprint: run.outputs for run in self.waiting if isinstance(run, StudentRun) and run.outputs
        }
        return tuple(outputs for outputs in needed.values() if problem_with(outputs))

    def forecast(self) -> Forecast:
        """Return what the finished runs say about the others."""
        return Forecast(self.study, self.measured)

    def time_left(self) -> float | None:
        """Seconds until the rest is trained with as many at once as now; None while nothing has finished."""
        forecast = self.forecast()
        known = self.study.by_fingerprint
        rest = [_left(run, forecast.seconds(known[run.fingerprint])) for run in self.running]
        rest += [forecast.seconds(run) for run in self.waiting]
        rest += [forecast.recording_seconds(outputs) for outputs in self.unrecorded]
        seconds = [each for each in rest if each is not None]
        return sum(seconds) / max(1, len(self.running)) if len(seconds) == len(rest) else None


def _left(run: RunningRun, whole: float | None) -> float | None:
    """Return what is left of a running training by its own pace, before its first step of what such a one takes."""
    if run.left is not None or whole is None:
        return run.left
    return whole * (1 - run.share)


def look(study: Study, before: StudyState | None = None) -> StudyState:
    """Return a study's state; runs that were done ``before`` are not read again."""
    known = {run.fingerprint for run in before.done} if before else set()
    measured = dict(before.measured) if before else {}
    alive = running_runs()
    done: list[Run] = []
    broken: list[tuple[Run, str]] = []
    running: list[RunningRun] = []
    left: list[Run] = []
    for run in study.runs:
        problem = None if run.fingerprint in known else problem_with(run)
        if problem is None:
            done.append(run)
            if run.fingerprint not in measured:
                measured |= _measured(run)
        elif run.fingerprint in alive:
            running.append(alive[run.fingerprint])
        elif problem == "missing":
            left.append(run)
        else:
            broken.append((run, problem))
    return StudyState(study, tuple(done), tuple(broken), tuple(running), tuple(left), measured)


def _measured(run: Run) -> dict[str, Measured]:
    try:
        measured = read_measured(read_record(run))
    except UserError:
        measured = None
    return {run.fingerprint: measured} if measured else {}


def describe(state: StudyState) -> list[str]:
    """Return a state as a table by task, then what is broken and running, then the sum."""
    lines = [f"study {state.study.name}: {len(state.study.runs)} runs wanted, results in {state.study.folder}/"]
    done = {run.fingerprint for run in state.done}
    width = max(len(task) for task in state.study.tasks)
    for task in state.study.tasks:
        counts = []
        for kind, runs in (("teachers", state.study.teachers), ("students", state.study.students)):
            wanted = [run for run in runs if run.task == task]
            if wanted:
                counts.append(f"{kind} {sum(run.fingerprint in done for run in wanted)} of {len(wanted)} done")
        lines.append(f"  {task:<{width}}  {', '.join(counts)}")
    lines += [f"  broken, will be trained again: {run.folder}: {problem}" for run, problem in state.broken]
    lines += [f"  running: {run}" for run in state.running]
    return [*lines, "  " + summary(state)]


def summary(state: StudyState) -> str:
    """Return one line: done, running, left, and the time the rest may take."""
    left = len(state.left) + len(state.broken)
    counts = f"{len(state.done)} done, {len(state.running)} running, {left} left"
    if state.finished:
        return f"all {len(state.done)} runs done"
    seconds = state.time_left()
    if seconds is None:
        return f"{counts}; time left: known once a first run has finished"
    return f"{counts}; about {duration(seconds)} left" + ("" if state.running else " one by one")


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``40 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
