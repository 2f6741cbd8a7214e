"""Disks that are full or read-only: one line, nothing half-written, nothing lost. Only root may mount such disks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_training import MACHINE, plan

from internal_kd.artefacts import Artefact
from internal_kd.errors import UserError
from internal_kd.records import is_complete
from internal_kd.steps.fetch_encoder import fetch_encoder
from internal_kd.steps.fetch_task import fetch_task
from internal_kd.steps.record_teacher import record_teacher
from internal_kd.steps.tokenize_task import tokenize_task
from internal_kd.steps.train_teacher import train_teacher
from tiny_study import make_encoder


def mount(folder: Path, options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk here")


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


# The tiny teacher's weights take 170 kB, its predictions 4 kB: one size for each that does not fit.
@pytest.mark.parametrize("size", ["64k", "4k"])
def test_a_full_disk_ends_a_training_in_one_line_and_the_next_start_goes_on(disk: Path, size: str) -> None:
    run = plan().teachers[0]
    mount(disk, f"size={size}")
    assert_refused_and_nothing_left(lambda: train_teacher(run, MACHINE), run, disk, "the disk is full")
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    train_teacher(run, MACHINE)
    assert is_complete(run)


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
        subprocess.run(["umount", str(folder)], check=True)
