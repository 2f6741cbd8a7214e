"""How far a study is: what is done, running, broken and left, from files alone, and how long the rest may take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.held import is_held, read_note, untested
from internal_kd.plan.artefacts import Artefact
from internal_kd.plan.identity import WORK
from internal_kd.plan.runs import Run
from internal_kd.plan.store import problem_with, read_history, read_record
from internal_kd.plan.study import Study
from internal_kd.report.words import duration
from internal_kd.running.forecast import Forecast, Measured, needed_disk, needed_downloads, read_measured
from internal_kd.running.make import lock_of, to_make

# A training reports every few seconds; one on another machine that has been silent this long has ended.
SILENCE = 15 * 60.0
# Of a training; before that its own pace is no measure.
FIRST_SHARE = 0.05


@dataclass(frozen=True)
class RunningRun:
    """A training that is at work.

    Attributes:
        epoch, epochs: where it is; 0 before its first report.
        share: how much of it is done, 0 to 1.
        resumed: how much of that was done before the process that works on it began.
        elapsed: seconds since then, up to its last report.
        last: the last epoch that ended, as a line of history has it: loss, its terms, dev scores.
    """

    run: Run
    epoch: int = 0
    epochs: int = 0
    share: float = 0.0
    resumed: float = 0.0
    elapsed: float = 0.0
    last: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float | None:
        """Seconds it still needs, None before the process's first step."""
        done_here = self.share - self.resumed
        return self.elapsed * (1 - self.share) / done_here if done_here > 0 else None

    def __str__(self) -> str:
        if not self.epochs:
            return f"{self.run.label}: starting"
        facts = [f"epoch {self.epoch} of {self.epochs}"]
        if isinstance(loss := self.last.get("loss"), int | float):
            facts.append(f"loss {loss:.3f}")
        scores = [(key, value) for key, value in self.last.items() if key.startswith("dev_")]
        facts += [f"dev {key[4:]} {value:.3f}" for key, value in scores[:1] if isinstance(value, int | float)]
        facts += [] if self.left is None else [f"{duration(self.left)} left"]
        return f"{self.run.label}: {', '.join(facts)}"


@dataclass(frozen=True)
class StudyState:
    """A study's runs by what has become of them. ``measured`` holds what finished runs record of their time."""

    study: Study
    done: tuple[Run, ...]
    broken: tuple[tuple[Run, str], ...]
    running: tuple[RunningRun, ...]
    left: tuple[Run, ...]
    measured: Mapping[str, Measured]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return not (self.broken or self.running or self.left)

    @property
    def bar(self) -> str:
        """How much is trained, for terminals: ``[#######-------------] 35 %``."""
        share = (len(self.done) + sum(running.share for running in self.running)) / len(self.study.runs)
        return f"[{'#' * int(20 * share):-<20}] {int(100 * share)} %"

    @property
    def waiting(self) -> tuple[Run, ...]:
        """The runs that nobody trains yet."""
        return (*self.left, *(run for run, _ in self.broken))

    def time_left(self) -> float | None:
        """Seconds until the rest is trained with as many at once as now; None while nothing comparable has finished."""
        forecast = Forecast(self.study, self.measured)
        rest = [self._left(running, forecast) for running in self.running]
        rest += [forecast.seconds(run) for run in self.waiting]
        seconds = [each for each in rest if each is not None]
        return sum(seconds) / max(1, len(self.running)) if len(seconds) == len(rest) else None

    def _left(self, running: RunningRun, forecast: Forecast) -> float | None:
        """Return what is left of a training by its own pace; its first steps are slow, so then by others like it."""
        whole = forecast.seconds(running.run)
        if whole is None or running.share - running.resumed >= FIRST_SHARE:
            return running.left
        return whole * (1 - running.share)


def look(study: Study, before: StudyState | None = None) -> StudyState:
    """Return a study's state; runs that were done ``before`` are not read again."""
    known = {run.fingerprint for run in before.done} if before else set()
    measured = dict(before.measured) if before else {}
    done: list[Run] = []
    broken: list[tuple[Run, str]] = []
    running: list[RunningRun] = []
    left: list[Run] = []
    for run in study.runs:
        problem = None if run.fingerprint in known else problem_with(run)
        if problem is None:
            done.append(run)
            with suppress(UserError):
                if run.fingerprint not in measured and (found := read_measured(read_record(run))):
                    measured[run.fingerprint] = found
        elif at_work := running_run(run):
            running.append(at_work)
        elif problem == "missing":
            left.append(run)
        else:
            broken.append((run, problem))
    return StudyState(study, tuple(done), tuple(broken), tuple(running), tuple(left), measured)


def state_of(run: Run) -> str:
    """Return ``complete``, ``running``, ``missing`` or ``broken``."""
    problem = problem_with(run)
    if problem is None or is_running(run):
        return "running" if problem else "complete"
    return "missing" if problem == "missing" else "broken"


def is_at_work(artefact: Artefact) -> bool:
    """Whether a process holds an artefact's lock."""
    try:
        return is_held(lock_of(artefact))
    except UserError:
        return False


def is_running(run: Run) -> bool:
    """Whether a process is at work on a run: here, or on a machine that cannot be tested and was heard of lately."""
    if is_at_work(run):
        return True
    try:
        elsewhere = untested(lock_of(run)) is not None
        return elsewhere and time.time() - progress_file(run.fingerprint).stat().st_mtime < SILENCE
    except (UserError, OSError):
        return False  # ended meanwhile


def running_run(run: Run) -> RunningRun | None:
    """Return how far a training is, None if nobody is at work on it."""
    if not is_running(run):
        return None
    epochs = read_history(progress_file(run.fingerprint).with_suffix(".jsonl"))
    last = epochs[-1] if epochs else {}
    try:
        # Written every few seconds; what a process before this one wrote is of no use.
        told = read_mapping(progress_file(run.fingerprint))
        began, updated = began_at(run), datetime.fromisoformat(told["updated"])
        if updated < began:
            return RunningRun(run, last=last)
        steps = float(told["steps"])
        share, resumed = min(1.0, told["step"] / steps), min(1.0, told["resumed_at"] / steps)
        elapsed = (updated - began).total_seconds()
        return RunningRun(run, int(told["epoch"]), int(told["epochs"]), share, resumed, elapsed, last)
    except (UserError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return RunningRun(run, last=last)


def began_at(run: Run) -> datetime:
    """Return when the process that holds a run's lock took it."""
    return datetime.strptime(str(read_note(lock_of(run))["started"]), "%Y-%m-%d %H:%M:%S %z")


def progress_file(fingerprint: str) -> Path:
    """``work/progress/<fp>.json``: how far a training is; its finished epochs are in ``<fp>.jsonl``."""
    return WORK / "progress" / f"{fingerprint}.json"


def describe(state: StudyState) -> list[str]:
    """Return a state for people: one line for the study and each task, what runs and is broken, what the rest needs."""
    study = state.study
    lines = [f"study {study.name}, results in {study.folder}/: {summary(state)}"]
    done = {run.fingerprint for run in state.done}
    width = max(len(task) for task in study.tasks)
    for task in study.tasks:
        lines.append(f"  {task:<{width}}  {_counts([run for run in study.runs if run.task == task], done)}")
    lines += [f"  running: {running}" for running in state.running]
    lines += [f"  broken, will be trained again: {run.folder}: {problem}" for run, problem in state.broken]
    if not state.finished:
        needed = [artefact for artefact, _ in to_make(state.waiting).values()]
        lines += [f"  making: {other.label}" for other in needed if not isinstance(other, Run) and is_at_work(other)]
        lines += [f"  {line}" for line in (needed_downloads(needed), needed_disk(study, needed)) if line]
    return lines


def as_json(state: StudyState) -> dict[str, Any]:
    """Return a state as plain values; ``seconds_left`` is None while it is unknown."""
    return {
        "study": state.study.name,
        "runs": len(state.study.runs),
        "done": len(state.done),
        "running": [
            {
                "fingerprint": running.run.fingerprint,
                "label": running.run.label,
                "epoch": running.epoch,
                "epochs": running.epochs,
                "share": running.share,
                "seconds_left": running.left,
                "last_epoch": dict(running.last),
            }
            for running in state.running
        ],
        "broken": {run.fingerprint: problem for run, problem in state.broken},
        "left": len(state.left),
        "seconds_left": 0.0 if state.finished else state.time_left(),
    }


def _counts(runs: Sequence[Run], done: set[str]) -> str:
    complete = sum(run.fingerprint in done for run in runs)
    if complete in (0, len(runs)):
        return f"{'all' if complete else 'none of'} {len(runs)} done"
    methods: dict[str, list[bool]] = {}
    for run in runs:
        methods.setdefault(run.method.name, []).append(run.fingerprint in done)
    counts = [f"{name} {sum(known)} of {len(known)}" for name, known in methods.items()]
    return f"{complete} of {len(runs)} done: {', '.join(counts)}"


def summary(state: StudyState) -> str:
    """Return one line: done, running, left, and the time the rest may take."""
    if state.finished:
        return f"all {len(state.done)} runs done"
    counts = f"{len(state.done)} of {len(state.study.runs)} runs done"
    if state.running:
        counts += f", {len(state.running)} running"
    seconds = state.time_left()
    if seconds is None and state.running:
        return f"{counts}; {state.running[0]}"
    if seconds is None:
        return f"{counts}; time left: known once a first run has finished"
    return f"{counts}; about {duration(seconds)} left" + ("" if state.running else ", one run at a time")
