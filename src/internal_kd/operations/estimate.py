"""``internal-kd estimate``: what a study still asks for, in runs, hours, disk and downloads, before it is started."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from internal_kd.artefacts import EncoderFiles, InitialStudent, Run, StudentRun, TaskData, TeacherOutputs
from internal_kd.operations.catalogue import Catalogue, lacking
from internal_kd.operations.costs import Forecast
from internal_kd.operations.gc import readable
from internal_kd.operations.leases import available_gpus
from internal_kd.operations.progress import StudyState, duration, look
from internal_kd.operations.sizes import EncoderShape, shape_of
from internal_kd.params import load_params
from internal_kd.records import problem_with
from internal_kd.study import Study, plan_study

Number = TypeVar("Number", int, float)

UNKNOWN_HOURS = "hours unknown until a first run is finished; `internal-kd run` will say"


@dataclass(frozen=True)
class Count:
    """How many runs of a kind are wanted, complete, and to train (those being trained now included)."""

    wanted: int
    complete: int
    to_train: int


@dataclass(frozen=True)
class TaskShare:
    """A task's part in what is left: its runs, its share of the work of all (0 to 1) and its hours, where known."""

    to_train: int
    work_share: float | None
    hours: float | None


@dataclass(frozen=True)
class Download:
    """Something to be fetched from the hub, and its bytes where they are known."""

    what: str
    bytes: int | None


@dataclass(frozen=True)
class Disk:
    """Bytes still to be written, by what they are; None where a size is not known yet. ``free``: what the disk has.

    ``checkpoints``: of one training at a time, the largest; ``downloads``: those whose size is known.
    """

    models: int | None
    teacher_outputs: int | None
    initial_students: int | None
    checkpoints: int | None
    downloads: int
    free: int

    @property
    def needed(self) -> int:
        """The sum of what is known."""
        kept = (self.models, self.teacher_outputs, self.initial_students)
        return sum(size or 0 for size in (*kept, self.checkpoints, self.downloads))


@dataclass(frozen=True)
class Estimate:
    """What a study still asks for. ``hours`` are of one job after another; None while nothing is measured.

    ``device`` and ``measured_runs`` say whose speed they stand on, ``assumed_lengths`` names the tasks of which not
    even the length of examples is known yet.
    """

    study: str
    teachers: Count
    students: Count
    recordings: int
    hours: float | None
    device: str | None
    measured_runs: int
    tasks: dict[str, TaskShare]
    disk: Disk
    downloads: tuple[Download, ...]
    assumed_lengths: tuple[str, ...]

    @property
    def to_train(self) -> int:
        """Teachers and students to train."""
        return self.teachers.to_train + self.students.to_train


def estimate(options: argparse.Namespace) -> int:
    """Print what a study still asks for."""
    found = estimate_study(look(plan_study(load_params(options.params, options.overlay))))
    print(json.dumps(asdict(found), indent=2, allow_nan=False) if options.json else "\n".join(describe(found)))
    return 0


def estimate_study(state: StudyState) -> Estimate:
    """Work out what is left of a study from its state."""
    study, forecast = state.study, state.forecast()
    complete = {run.fingerprint for run in state.done}
    lacks = lacking(run for run in study.runs if run.fingerprint not in complete)
    needed = [artefact for artefact, _ in lacks.values()]
    # A run that is complete is among them when others need a teacher whose weights are gone.
    left = [run for run in study.runs if run.fingerprint in lacks]
    done = complete - lacks.keys()
    recordings = [artefact for artefact in needed if isinstance(artefact, TeacherOutputs)]
    seconds = [forecast.seconds(run) for run in left] + [forecast.recording_seconds(each) for each in recordings]
    shape = shape_of(next(iter(study.tasks.values())).encoder)
    initial = [artefact for artefact in needed if isinstance(artefact, InitialStudent)]
    downloads = tuple(sorted(_downloads(study, shape), key=lambda each: each.what))
    disk = Disk(
        models=_model_bytes(study, left, shape),
        teacher_outputs=_sum(_recorded_bytes(study, each, forecast, shape) for each in recordings),
        initial_students=_sum(shape.model_bytes(each.depth) if shape else None for each in initial),
        checkpoints=_checkpoint_bytes(left, shape),
        downloads=sum(each.bytes or 0 for each in downloads),
        free=shutil.disk_usage(Path()).free,
    )
    return Estimate(
        study=study.name,
        teachers=_count(study.teachers, done),
        students=_count(study.students, done),
        recordings=len(recordings),
        hours=_hours(seconds),
        device=forecast.device,
        measured_runs=forecast.runs,
        tasks=_shares(study, left, forecast),
        disk=disk,
        downloads=downloads,
        assumed_lengths=tuple(
            task for task in study.tasks if (size := forecast.size(task)) is None or size.source == "assumed"
        ),
    )


def _count(runs: Sequence[Run], done: set[str]) -> Count:
    complete = sum(run.fingerprint in done for run in runs)
    return Count(len(runs), complete, len(runs) - complete)


def _hours(seconds: Sequence[float | None]) -> float | None:
    total = _sum(seconds)
    return None if total is None else total / 3600


def _sum(values: Iterable[Number | None]) -> Number | None:
    known = list(values)
    return None if any(value is None for value in known) else sum(value for value in known if value is not None)


def _shares(study: Study, left: Sequence[Run], forecast: Forecast) -> dict[str, TaskShare]:
    work = {run.fingerprint: forecast.work(run) for run in left}
    known = {fp: each.total for fp, each in work.items() if each}
    whole = sum(known.values()) if len(known) == len(work) else 0
    shares = {}
    for task in study.tasks:
        runs = [run for run in left if run.task == task]
        share = sum(known[run.fingerprint] for run in runs) / whole if whole else None
        shares[task] = TaskShare(len(runs), share, _hours([forecast.seconds(run) for run in runs]))
    return shares


def _model_bytes(study: Study, left: Sequence[Run], shape: EncoderShape | None) -> int | None:
    if shape is None:
        return None if left else 0
    kept = study.params.machine.keep_models
    total = 0
    for run in left:
        if not isinstance(run, StudentRun):
            total += shape.model_bytes(shape.layers)
        elif kept == "all" or (kept == "first-seed" and run.seed == study.params.study.seeds[0]):
            total += shape.model_bytes(run.depth)
    return total


def _checkpoint_bytes(left: Sequence[Run], shape: EncoderShape | None) -> int | None:
    """Weights and AdamW's two moments of the largest model, twice: the last one stays until the next is whole."""
    if shape is None or not left:
        return None if left else 0
    return 2 * 3 * max(shape.model_bytes(run.depth if isinstance(run, StudentRun) else shape.layers) for run in left)


def _recorded_bytes(
    study: Study, outputs: TeacherOutputs, forecast: Forecast, shape: EncoderShape | None
) -> int | None:
    size, attention = forecast.size(outputs.task), forecast.attention_layers(outputs)
    if size is None or shape is None or attention is None:
        return None
    layers, each = attention
    affordable = min(len(layers), int(study.params.machine.disk_budget_gb * 1e9 // max(1, each)))
    return each * affordable + 2 * shape.width * size.train * len(layers)


def _downloads(study: Study, shape: EncoderShape | None) -> Iterable[Download]:
    """Yield what is not here yet and comes from the hub."""
    for artefact in Catalogue(study).by_fingerprint.values():
        if isinstance(artefact, TaskData) and artefact.hub is not None and problem_with(artefact):
            yield Download(f"{artefact.hub.repository} {artefact.glue}", None)
        elif isinstance(artefact, EncoderFiles) and artefact.path is None and problem_with(artefact):
            yield Download(str(artefact.encoder.id), shape.model_bytes(shape.layers) if shape else None)


def describe(found: Estimate) -> list[str]:
    """Return an estimate as lines for people."""
    lines = [f"study {found.study}: {found.teachers.wanted + found.students.wanted} runs wanted"]
    for kind, count in (("teachers", found.teachers), ("students", found.students)):
        lines.append(f"  {kind}  {count.wanted} wanted, {count.complete} complete, {count.to_train} to train")
    if not found.to_train:
        return [*lines, "  nothing is left to train"]
    if found.recordings:
        lines.append(f"  teachers to record for their students: {found.recordings}")
    lines.append(f"  time      {_time(found)}")
    for task, share in found.tasks.items():
        parts = [f"{share.to_train} to train"]
        parts += [] if share.work_share is None else [f"{100 * share.work_share:.0f} % of the work"]
        parts += [] if share.hours is None else [f"about {duration(3600 * share.hours)}"]
        lines.append(f"    {task}: {', '.join(parts)}")
    sizes = {
        "models": found.disk.models,
        "teacher outputs": found.disk.teacher_outputs,
        "students' first weights": found.disk.initial_students,
        "checkpoints of one training at a time": found.disk.checkpoints,
    }
    shown = [f"{what} {_size(size)}" for what, size in sizes.items() if size != 0]
    lines.append(f"  disk      {', '.join(shown)}; {readable(found.disk.free)} free")
    if found.disk.needed > found.disk.free:
        lines.append(f"  WARNING: the disk lacks {readable(found.disk.needed - found.disk.free)}")
    fetched = [f"{each.what} ({_size(each.bytes)})" for each in found.downloads]
    lines.append(f"  download  {', '.join(fetched) or 'nothing'}")
    if found.assumed_lengths:
        lines.append(f"  lengths of examples are assumed until these are tokenised: {', '.join(found.assumed_lengths)}")
    if warning := _other_device(found.device):
        lines.append(f"  WARNING: {warning}")
    return lines


def line(state: StudyState) -> str | None:
    """Return the same in one line for the start of a run, None where nothing is left to train."""
    found = estimate_study(state)
    if not found.to_train:
        return None
    sizes = f"{_size(found.disk.models)} for models, {_size(found.disk.teacher_outputs)} for teacher outputs"
    fetched = f"{len(found.downloads)} downloads" if found.downloads else "no download"
    short = f"; the disk has only {readable(found.disk.free)}" if found.disk.needed > found.disk.free else ""
    return (
        f"{found.to_train} runs to train: {_time(found)}; {sizes}, {fetched}{short}; `internal-kd estimate` says more"
    )


def _time(found: Estimate) -> str:
    if found.hours is None:
        return UNKNOWN_HOURS if not found.measured_runs else "hours unknown until every task is fetched"
    kind = "CPU" if (found.device or "").startswith("cpu") or not found.device else "GPU"
    measure = f"{found.measured_runs} finished run{'s' if found.measured_runs > 1 else ''}"
    return (
        f"about {duration(3600 * found.hours)} of one {kind} job after another, as {measure} took on "
        f"{found.device or 'an unnamed device'}"
    )


def _size(size: int | None) -> str:
    return "size unknown" if size is None else readable(size)


def _other_device(device: str | None) -> str | None:
    if not device:
        return None
    gpus = bool(available_gpus())
    if device.startswith("cpu") == gpus:
        return f"measured on {device}, but this machine has {'GPUs' if gpus else 'no GPU'}: expect other hours"
    return None
