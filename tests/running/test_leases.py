"""GPU leases: different jobs, different GPUs; freed whatever happens; waited for when taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from internal_kd.operations.leases import available_gpus, default_folder, lease_gpu
from internal_kd.operations.making import surroundings

HOLD = """
import sys, time
from pathlib import Path
from internal_kd.operations.leases import lease_gpu
import os
with lease_gpu(int(sys.argv[1]), Path(sys.argv[2])) as gpu:
    print(gpu, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


def hold(folder: Path, jobs_per_gpu: int = 1) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-c", HOLD, str(jobs_per_gpu), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    gpu, visible = process.stdout.readline().split()
    assert gpu == visible
    return process, gpu


def end(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.kill()
        process.wait()


def test_parallel_jobs_get_different_gpus(tmp_path):
    first, one = hold(tmp_path)
    second, two = hold(tmp_path)
    end(first, second)
    assert {one, two} == {"0", "1"}


def test_a_killed_job_frees_its_gpu(tmp_path):
    first, one = hold(tmp_path)
    second, _ = hold(tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    third, three = hold(tmp_path)
    end(second, third)
    assert three == one


def test_more_jobs_than_gpus_wait(tmp_path):
    with lease_gpu(1, tmp_path), lease_gpu(1, tmp_path / "elsewhere"):
        pass
    first, _ = hold(tmp_path)
    second, _ = hold(tmp_path)
    command = [sys.executable, "-c", HOLD, "1", str(tmp_path)]
    third = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert third.stdout.readline() == "all of 2 GPUs are taken: waiting for one\n"
    end(first)
    assert third.stdout.readline().split()[0] in ("0", "1")
    end(second, third)


def test_several_jobs_share_a_gpu_when_told_so_and_spread_first(tmp_path):
    held = [hold(tmp_path, jobs_per_gpu=2) for _ in range(4)]
    end(*(process for process, _ in held))
    assert sorted(gpu for _, gpu in held) == ["0", "0", "1", "1"]
    assert {held[0][1], held[1][1]} == {"0", "1"}


def test_only_the_gpus_that_were_named_are_taken_whatever_they_are_called(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8a/1")
    held = [hold(tmp_path) for _ in range(2)]
    end(*(process for process, _ in held))
    assert {gpu for _, gpu in held} == {"5", "GPU-8a/1"}


@pytest.mark.timeout(60)
def test_how_many_jobs_share_a_gpu_is_a_parameter(study, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    machine = study.params.machine.model_copy(update={"jobs_per_gpu": 2})
    params = study.params.model_copy(update={"machine": machine})
    with surroundings(study.teachers[0], params), surroundings(study.students[0], params):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
        with pytest.raises(Timeout), FileLock(default_folder() / "3.1.lock", timeout=0):
            pass
    # What needs no GPU takes none.
    with surroundings(study.tasks["judge"], params), FileLock(default_folder() / "3.0.lock", timeout=0):
        pass


def test_the_surroundings_are_put_back(tmp_path):
    with lease_gpu(1, tmp_path) as gpu:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_slurm_has_chosen_already(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with lease_gpu(1, tmp_path) as gpu:
        assert gpu == "1"
    assert list(tmp_path.iterdir()) == []


def test_a_slurm_job_that_was_given_no_gpu_takes_none_of_the_node(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: one of somebody else'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with lease_gpu(1, tmp_path) as gpu:
        assert gpu is None


def test_several_gpus_of_one_slurm_job_are_shared_out_and_no_other_job_is_held_up(tmp_path, monkeypatch):
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
def test_without_a_gpu_one_line_says_so(tmp_path, monkeypatch, capsys, value):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    start = time.monotonic()
    with lease_gpu(1, tmp_path) as gpu:
        assert gpu is None
    assert capsys.readouterr().out == "no GPU here: computing on the CPU\n" and time.monotonic() - start < 1


def test_a_machine_without_nvidia_tools_has_no_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    assert available_gpus() == []


def test_a_user_without_a_name_has_locks_too(monkeypatch):
    def no_entry(*_):
        raise KeyError("getpwuid(): uid not found")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    assert default_folder().name == f"internal-kd-gpus-{os.getuid()}"
