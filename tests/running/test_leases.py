"""GPU leases: different jobs, different GPUs; freed whatever happens; waited for when taken."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.held import is_held
from internal_kd.running.leases import available_gpus, lease_folder, lease_gpu

HOLD = """
import os, sys
from pathlib import Path
from internal_kd.running import leases
leases.POLL_SECONDS = 0.01
with leases.lease_gpu(int(sys.argv[1]), Path(sys.argv[2])) as gpu:
    print(gpu, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


@pytest.fixture
def started() -> Iterator[ExitStack]:
    with ExitStack() as processes:
        yield processes


def start(started: ExitStack, folder: Path, jobs_per_gpu: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(jobs_per_gpu), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started.callback(process.communicate)
    started.callback(process.kill)
    return process


def gpu_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    gpu, visible = process.stdout.readline().split()
    assert gpu == visible
    return gpu


def test_parallel_jobs_get_different_gpus_and_a_third_waits_for_one(started: ExitStack, tmp_path: Path) -> None:
    first, second = (start(started, tmp_path) for _ in range(2))
    taken = gpu_of(first)
    assert {taken, gpu_of(second)} == {"0", "1"}
    third = start(started, tmp_path)
    assert third.stdout and third.stdout.readline() == "waiting for a free GPU (all 2 in use)\n"
    first.kill()
    assert gpu_of(third) == taken


def test_several_jobs_share_a_gpu_when_told_so_and_spread_first(started: ExitStack, tmp_path: Path) -> None:
    taken = [gpu_of(start(started, tmp_path, jobs_per_gpu=2)) for _ in range(4)]
    assert sorted(taken) == ["0", "0", "1", "1"] and set(taken[:2]) == {"0", "1"}


def test_only_the_gpus_that_were_named_are_taken_whatever_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8a/1")
    with lease_gpu(1, tmp_path) as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8a/1")
        with lease_gpu(1, tmp_path) as second:
            assert {first, second} == {"5", "GPU-8a/1"}


def test_the_environment_is_put_back_and_the_lease_given_back(tmp_path: Path) -> None:
    with lease_gpu(1, tmp_path) as gpu:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu and is_held(tmp_path / f"{gpu}.0.lock")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1" and not list(tmp_path.iterdir())


def test_slurm_has_chosen_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with lease_gpu(1, tmp_path) as gpu:
        assert gpu == "1"
    assert list(tmp_path.iterdir()) == []


def test_a_slurm_job_that_was_given_no_gpu_takes_none_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: one of somebody else'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with lease_gpu(1, tmp_path) as gpu:
        assert gpu is None


def test_several_gpus_of_one_slurm_job_are_shared_out_and_no_other_job_is_held_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with lease_gpu(1, tmp_path) as first:
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
        with lease_gpu(1, tmp_path) as second:
            assert {first, second} == {"0", "1"}
            os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
            monkeypatch.setenv("SLURM_JOB_ID", "8")
            with lease_gpu(1, tmp_path) as other:
                assert other == "0"


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_without_a_gpu_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with lease_gpu(1, tmp_path) as gpu:
        assert gpu is None
    assert capsys.readouterr().out == "no GPU here: computing on the CPU\n"


def test_a_machine_without_nvidia_tools_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    assert available_gpus() == []


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"internal-kd-gpus-{os.getuid()}"


def test_all_projects_of_a_user_share_a_folder_that_nobody_else_can_write(temporary: Path) -> None:
    assert lease_folder() == temporary and temporary.stat().st_mode & 0o777 == 0o700
    temporary.chmod(0o777)
    assert lease_folder() == temporary and temporary.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("taken", ["a file", "a link", "of another user", "no folder for temporary files"])
def test_where_that_folder_is_not_ours_the_projects_jobs_share_the_gpus_and_a_line_says_so(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    if taken == "a file":
        temporary.touch()
    elif taken == "a link":
        (temporary.parent / "elsewhere").mkdir()
        temporary.symlink_to(temporary.parent / "elsewhere")
    elif taken == "of another user":
        lease_folder()
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        temporary.rename(temporary.with_name(f"internal-kd-gpus-{os.getuid()}"))
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary.parent / "gone"))
    with lease_gpu(1) as gpu:
        assert gpu == "0" and len(list(Path("work/gpus").glob("*/0.0.lock"))) == 1
    said = capsys.readouterr().out
    assert "internal-kd-gpus-" in said and "this project's jobs only" in said and said.count("\n") == 1


def test_a_lease_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "0.0.lock").mkdir()
    with pytest.raises(UserError, match=r"0\.0\.lock"), lease_gpu(1, tmp_path):
        pass
