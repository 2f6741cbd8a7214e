"""Disks, numbers and files that fail under a step: by its command, one line and exit code 1."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from disks import mount, unmount
from internal_kd.command_line import main
from internal_kd.plan.artefacts import Artefact
from internal_kd.plan.store import FOUND_DAMAGED, problem_with
from internal_kd.plan.study import Study
from internal_kd.running.make import to_make
from tiny_study import OVERLAY, make_encoder, make_project, plan_here, write_overlay


def do(artefact: Artefact) -> int:
    return main(["make", artefact.fingerprint, "--overlay", OVERLAY])


def made(study: Study, name: str) -> Artefact:
    """What is made of the tiny study: its data, token ids, the first teacher or the first fine-tuned student."""
    inputs = study.tasks["judge"]
    runs = {run.method.name: run for run in reversed(study.runs)}
    return {"data": inputs.data, "inputs": inputs, **runs}[name]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything is there that a student without a teacher trains on."""
    folder, before = tmp_path_factory.mktemp("prepared"), Path.cwd()
    make_project(folder)
    make_encoder(folder / "encoder")
    torch.set_num_threads(1)
    os.chdir(folder)
    study = plan_here()
    student = made(study, "finetuned")
    for artefact in (made(study, "data"), student.reads()["encoder"], made(study, "inputs"), student.reads()["first"]):
        assert do(artefact) == 0
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


def assert_one_line(artefact: Artefact, word: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert do(artefact) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("internal-kd: ") and word in line


def test_a_full_disk(small_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_one_line(made(plan_here(), "data"), "the disk is full", capfd)


def test_a_loss_that_is_not_a_number(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_overlay(project, methods={"teacher": {"learning_rate": 1e30, "epochs": 3, "warmup_share": 0.0}})
    assert_one_line(made(plan_here(), "teacher"), "no longer a number at step", capfd)


@pytest.mark.parametrize(
    ("damaged", "name"),
    [
        ("data/encoders/*/model.safetensors", "teacher"),
        ("work/initial/*/model/model.safetensors", "finetuned"),
        ("data/tasks/*/train.parquet", "inputs"),
        ("data/encoders/*/tokenizer.json", "inputs"),
        ("work/inputs/*/train.*.npy", "teacher"),
    ],
)
def test_a_file_whose_bytes_are_lost(project: Path, damaged: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    study = plan_here()
    if name == "inputs":
        shutil.rmtree(project / "work/inputs")
    for path in project.glob(damaged):
        # Of the right size: a truncated file is found by its size before it is read.
        path.write_bytes(bytes(path.stat().st_size))
    assert_one_line(made(study, name), damaged.split("/")[-1].split("*")[0], capfd)
    (again,) = (artefact for artefact in study.artefacts.values() if problem_with(artefact) == FOUND_DAMAGED)
    assert again.fingerprint in to_make(study.runs)
    assert do(again) == 0 and problem_with(again) is None


def test_a_users_own_parquet_file_that_is_truncated(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "own.parquet").write_bytes(b"PAR1 cut short")
    own = {"source": "files", "train": "own.parquet", "dev": "own.parquet", "text": ["text"]}
    write_overlay(project, study={"tasks": ["mine"]}, tasks={"mine": own})
    assert_one_line(plan_here().tasks["mine"].data, "own.parquet", capfd)
