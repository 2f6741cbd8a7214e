"""Disks that are full or read-only: one line, nothing half-written, nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from test_train import MACHINE, plan, run_of

from disks import mount, remount, unmount
from internal_kd.distillation.checkpoints import CheckpointFolder, read_tensors
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Artefact
from internal_kd.plan.runs import Answers, Run
from internal_kd.plan.store import is_complete
from internal_kd.plan.study import Study
from internal_kd.steps.encode import encode_task
from internal_kd.steps.fetch import fetch_task
from internal_kd.steps.record import record_answers
from internal_kd.steps.train import initialize_student, train_run
from tiny_study import make_encoder
from trained_study import make

LARGER = {"tasks": {"judge": {"train": 500}}}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with an encoder, and where its disk will be mounted."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    make_encoder(tmp_path / "encoder")
    mounted = tmp_path / "results"
    yield mounted
    subprocess.run(["umount", str(mounted)], capture_output=True)


def teacher_of(study: Study) -> Run:
    """The teacher, with everything that its training reads."""
    run = run_of(study, "teacher")
    for needed in run.reads().values():
        make(needed)
    return run


def answers_of(study: Study) -> Answers:
    """What is recorded for the students that read internals, with everything that recording reads."""
    (answers,) = run_of(study, "soft_kl_cos").parts
    for needed in answers.reads().values():
        make(needed)
    return answers


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def refuse_and_leave_nothing(act: Callable[[], None], artefact: Artefact, disk: Path, said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        act()
    assert str(artefact.folder) in str(refusal.value) and "\n" not in str(refusal.value)
    assert not is_complete(artefact) and not artefact.marker.exists()
    assert files_of(disk) == []


PAGE = 4096


def pages(paths: Iterable[Path]) -> int:
    """What files take on a small disk, which gives out complete pages."""
    return sum(-(-path.stat().st_size // PAGE) for path in paths if path.is_file())


@pytest.mark.parametrize("missing", ["model.safetensors", "predictions.parquet", "run.json"])
def test_a_full_disk_ends_a_training_in_one_line_and_the_next_start_goes_on(disk: Path, missing: str) -> None:
    run = teacher_of(plan())
    train_run(run, MACHINE)
    model = pages((run.folder / "model").iterdir())
    rest = pages(run.folder / name for name in ("predictions.parquet", "history.jsonl"))
    shutil.rmtree(disk)
    room = {"model.safetensors": model - 2, "predictions.parquet": model, "run.json": model + rest}[missing]
    mount(disk, f"size={room * PAGE}")
    refuse_and_leave_nothing(lambda: train_run(run, MACHINE), run, disk, "the disk is full")
    remount(disk, "size=8m")
    train_run(run, MACHINE)
    assert is_complete(run)


def test_a_checkpoint_the_disk_cannot_hold_leaves_the_one_before_it(disk: Path) -> None:
    run = teacher_of(plan(methods={"teacher": {"epochs": 3}}))
    # Room for one checkpoint of three times the model, not for two; the first is due at once, as are all after it.
    folder = Path("work/checkpoints")
    mount(folder, "size=800k")
    often = MACHINE.model_copy(update={"checkpoint_minutes": 1e-9})
    try:
        with pytest.raises(UserError, match=r"the disk is full: work/checkpoints/\w+/step-2 could not be written"):
            train_run(run, often)
        newest = CheckpointFolder(run.checkpoints, 1.0).newest()
        assert newest is not None and newest.name == "step-1"
        assert all(torch.isfinite(weight).all() for weight in read_tensors(newest, "model").values())
        assert not run.folder.exists()
        remount(folder, "size=8m")
        train_run(run, often)
        assert is_complete(run)
    finally:
        unmount(folder)


def test_a_results_folder_that_is_read_only_is_one_line(disk: Path) -> None:
    run = teacher_of(plan())
    mount(disk, "ro")
    refuse_and_leave_nothing(lambda: train_run(run, MACHINE), run, disk, r"cannot be written \(Read-only")


def step_of(study: Study, name: str) -> tuple[Callable[[], None], Artefact, Path]:
    """A step that is ready to be done, what it makes, and the folder that it writes in."""
    student = run_of(study, "soft")
    if name == "answers":
        answers = answers_of(study)
        return lambda: record_answers(answers, MACHINE), answers, Path("work/answers")
    steps = {
        "data": (fetch_task, student.inputs.data, "data/tasks"),
        "inputs": (encode_task, student.inputs, "work/inputs"),
        "initial": (initialize_student, student.first, "work/initial"),
    }
    step, artefact, folder = steps[name]
    for needed in artefact.reads().values():
        make(needed)
    return lambda: step(artefact), artefact, Path(folder)


@pytest.mark.parametrize("name", ["data", "inputs", "answers", "initial"])
def test_a_full_disk_leaves_nothing_of_data_inputs_answers_or_first_weights(disk: Path, name: str) -> None:
    act, artefact, folder = step_of(plan(**LARGER), name)
    mount(folder, "size=4k")
    try:
        # What a recording takes is known beforehand: it is refused before a byte is written.
        with pytest.raises(UserError, match="but the disk of" if name == "answers" else "the disk is full"):
            act()
        assert not artefact.marker.exists() and files_of(folder) == []
    finally:
        unmount(folder)


def test_a_disk_that_others_fill_meanwhile_ends_a_recording_in_one_line_too(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answers_of(plan(**LARGER))
    # Of two recordings that begin at once, each finds the room that only one of them can have.
    monkeypatch.setattr("internal_kd.steps.record.require_space", lambda folder, needed, what: None)
    folder = Path("work/answers")
    mount(folder, "size=64k")
    try:
        with pytest.raises(UserError, match="the disk is full"):
            record_answers(answers, MACHINE)
        assert files_of(folder) == []
    finally:
        unmount(folder)
