"""Disks that are full or read-only: one line, nothing half-written, nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from test_training import MACHINE, plan

from disks import mount, remount, unmount
from internal_kd.artefacts import Artefact
from internal_kd.distillation.checkpoints import CheckpointFolder, read_tensors
from internal_kd.errors import UserError
from internal_kd.records import is_complete
from internal_kd.steps.fetch_encoder import fetch_encoder
from internal_kd.steps.fetch_task import fetch_task
from internal_kd.steps.record_teacher import record_teacher
from internal_kd.steps.tokenize_task import tokenize_task
from internal_kd.steps.train_teacher import train_teacher
from tiny_study import make_encoder


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with tokens, and where its disk will be mounted."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    make_encoder(tmp_path / "encoder")
    (tokens,) = plan().tasks.values()
    for step, artefact in ((fetch_task, tokens.data), (fetch_encoder, tokens.encoder), (tokenize_task, tokens)):
        step(artefact)  # type: ignore[operator]
    mounted = tmp_path / "results"
    yield mounted
    subprocess.run(["umount", str(mounted)], capture_output=True)


def assert_refused_and_nothing_left(act, artefact: Artefact, disk: Path, said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        act()
    assert str(artefact.folder) in str(refusal.value)
    assert not is_complete(artefact) and not artefact.marker.exists()
    assert [path for path in disk.rglob("*") if path.is_file()] == []


PAGE = 4096


def pages(paths: Iterable[Path]) -> int:
    """What files take on a small disk, which gives out whole pages."""
    return sum(-(-path.stat().st_size // PAGE) for path in paths if path.is_file())


@pytest.mark.parametrize("lacking", ["model.safetensors", "predictions.parquet", "run.json"])
def test_a_full_disk_ends_a_training_in_one_line_and_the_next_start_goes_on(disk: Path, lacking: str) -> None:
    run = plan().teachers[0]
    train_teacher(run, MACHINE)
    model = pages((run.folder / "model").iterdir())
    rest = pages(run.folder / name for name in ("predictions.parquet", "history.jsonl"))
    shutil.rmtree(disk)
    room = {"model.safetensors": model - 2, "predictions.parquet": model, "run.json": model + rest}[lacking]
    mount(disk, f"size={room * PAGE}")
    assert_refused_and_nothing_left(lambda: train_teacher(run, MACHINE), run, disk, "the disk is full")
    remount(disk, "size=8m")
    train_teacher(run, MACHINE)
    assert is_complete(run)


def test_a_checkpoint_the_disk_cannot_hold_leaves_the_one_before_it(disk: Path) -> None:
    run = plan(teacher={"epochs": 3}).teachers[0]
    # Room for one checkpoint of three times the model, not for two; the first is due at once, as are all after it.
    folder = Path("work/checkpoints")
    mount(folder, "size=800k")
    often = MACHINE.model_copy(update={"checkpoint_minutes": 1e-9})
    try:
        with pytest.raises(UserError, match=r"the disk is full: work/checkpoints/\w+/step-2 could not be written"):
            train_teacher(run, often)
        newest = CheckpointFolder(run.checkpoints, 1.0).newest()
        assert newest is not None and newest.name == "step-1"
        assert all(torch.isfinite(weight).all() for weight in read_tensors(newest, "model").values())
        assert not run.folder.exists()
        remount(folder, "size=8m")
        train_teacher(run, often)
        assert is_complete(run)
    finally:
        unmount(folder)


def test_a_results_folder_that_is_read_only_is_one_line(disk: Path) -> None:
    run = plan().teachers[0]
    mount(disk, "ro")
    assert_refused_and_nothing_left(lambda: train_teacher(run, MACHINE), run, disk, r"cannot be written \(Read-only")


@pytest.mark.parametrize(("name", "size"), [("tokens", "4k"), ("data", "4k"), ("teacher_outputs", "4k")])
def test_a_full_disk_leaves_nothing_of_tokens_data_or_recordings(disk: Path, name: str, size: str) -> None:
    study = plan(tasks={"judge": {"train": 500}})
    (tokens,) = study.tasks.values()
    outputs = next(run.outputs for run in study.students if run.outputs)
    steps = {
        "data": (lambda: fetch_task(tokens.data), tokens.data, Path("data/tasks")),
        "tokens": (lambda: tokenize_task(tokens), tokens, Path("work/tokens")),
        "teacher_outputs": (lambda: record_teacher(outputs, MACHINE), outputs, Path("work/teacher_outputs")),
    }
    act, artefact, folder = steps[name]
    if name != "data":
        fetch_task(tokens.data)
    if name == "teacher_outputs":
        tokenize_task(tokens)
        train_teacher(outputs.teacher, MACHINE)
    mount(folder, f"size={size}")
    try:
        # What a recording takes is known before: it is refused before a byte is written.
        said = "but the disk of" if name == "teacher_outputs" else "the disk is full"
        with pytest.raises(UserError, match=said):
            act()
        assert not artefact.marker.exists() and [path for path in folder.rglob("*") if path.is_file()] == []
    finally:
        unmount(folder)


def test_a_disk_that_others_fill_meanwhile_ends_a_recording_in_one_line_too(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = plan(tasks={"judge": {"train": 500}})
    (tokens,) = study.tasks.values()
    outputs = next(run.outputs for run in study.students if run.outputs)
    fetch_task(tokens.data)
    tokenize_task(tokens)
    train_teacher(outputs.teacher, MACHINE)
    # Of two recordings that begin at once, each finds the room that only one of them can have.
    monkeypatch.setattr("internal_kd.steps.record_teacher.require_space", lambda folder, needed, what: None)
    folder = Path("work/teacher_outputs")
    mount(folder, "size=64k")
    try:
        with pytest.raises(UserError, match="the disk is full"):
            record_teacher(outputs, MACHINE)
        assert [path for path in folder.rglob("*") if path.is_file()] == []
    finally:
        unmount(folder)
