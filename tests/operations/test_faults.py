"""Disks, numbers and files that fail under a step: by its command, one line and exit code 1."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from disks import mount, unmount
from internal_kd.operations.cli import main
from tiny_study import OVERLAY, make_encoder, make_project, write_overlay

TEACHER = ["train-teacher", "--task", "judge", "--seed", "1"]
STUDENT = ["train-student", "--task", "judge", "--depth", "2", "--method", "finetuned", "--seed", "1"]


def do(arguments: list[str]) -> int:
    return main([arguments[0], "--overlay", OVERLAY, *arguments[1:]])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything is there that a student without a teacher trains on."""
    folder, before = tmp_path_factory.mktemp("prepared"), Path.cwd()
    make_project(folder)
    make_encoder(folder / "encoder")
    torch.set_num_threads(1)
    os.chdir(folder)
    for command in (["fetch-task", "--task", "judge"], ["fetch-encoder"], ["tokenize-task", "--task", "judge"]):
        assert do(command) == 0
    assert do(["initialize-student", *STUDENT[1:]]) == 0
    os.chdir(before)
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current directory."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """One page of disk in the place of data/tasks."""
    folder = project / "data/tasks"
    shutil.rmtree(folder)
    mount(folder, "size=4k")
    yield folder
    unmount(folder)


def assert_one_line(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert do(arguments) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("internal-kd: ") and said in line


def test_a_full_disk(small_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_one_line(["fetch-task", "--task", "judge"], "the disk is full", capfd)


def test_a_loss_that_is_no_number(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_overlay(project, teacher={"learning_rate": 1e30, "epochs": 3, "warmup_share": 0.0})
    assert_one_line(TEACHER, "no longer a number at step", capfd)


@pytest.mark.parametrize(
    ("damaged", "arguments", "said"),
    [
        ("data/encoders/*/model.safetensors", TEACHER, "cannot be read"),
        ("work/initial/*/model/model.safetensors", STUDENT, "cannot be read"),
        ("data/tasks/*/train.parquet", ["tokenize-task", "--task", "judge"], "cannot be read"),
        ("data/encoders/*/tokenizer.json", ["tokenize-task", "--task", "judge"], "cannot be read"),
        ("work/tokens/*/train.*.npy", TEACHER, "cut short or no array"),
    ],
)
def test_a_file_whose_bytes_are_lost(
    project: Path, damaged: str, arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "tokenize-task":
        shutil.rmtree(project / "work/tokens")
    for path in project.glob(damaged):
        # Of the right size: one that is cut short is found out by its size before it is read.
        path.write_bytes(bytes(path.stat().st_size))
    assert_one_line(arguments, said, capfd)


def test_a_users_own_parquet_file_that_is_cut_short(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "own.parquet").write_bytes(b"PAR1 cut short")
    own = {"source": "files", "train": "own.parquet", "dev": "own.parquet", "text": ["text"]}
    write_overlay(project, study={"tasks": ["mine"]}, tasks={"mine": own})
    assert_one_line(["fetch-task", "--task", "mine"], "own.parquet cannot be read", capfd)
