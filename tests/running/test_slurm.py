"""What is said to SLURM and made of its answers; tests/cluster asks a real one."""

import os
from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.running import slurm

UUID = "68398414-6aa5-43db-a754-69450a473fa1"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.01)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that is searched first; an empty queue."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    program(folder / "squeue", f"cat {tmp_path}/queue")
    (tmp_path / "queue").write_text("")
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def line(number: int, state: str, name: str = f"internal-kd_{UUID}", folder: Path | None = None) -> str:
    return f"{number}|{state}|{name}|{folder or Path.cwd()}\n"


def test_without_slurm_there_is_nothing_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.end_orphans(pytest.fail)


def test_only_jobs_that_a_snakemake_submitted_from_this_folder_count(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(Path.cwd())
    lines = [
        line(1, "RUNNING"),
        line(2, "PENDING", UUID),
        line(3, "RUNNING", "wrap"),
        line(4, "RUNNING", folder=tmp_path / "another"),
        line(5, "PENDING", folder=tmp_path / "link"),
    ]
    (tmp_path / "queue").write_text("".join(lines))
    assert [job.number for job in slurm.jobs_here()] == ["1", "2", "5"]


def test_running_jobs_are_asked_to_stop_and_waiting_ones_cancelled(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").write_text(line(1, "RUNNING") + line(2, "PENDING"))
    program(programs / "scancel", f'echo "$@" >> {tmp_path}/said; sed -i "/^${{2:-$1}}|/d" {tmp_path}/queue')
    said: list[str] = []
    slurm.end_orphans(said.append)
    assert (tmp_path / "said").read_text() == "2\n--signal=TERM 1\n"
    assert said[0].startswith("2 jobs of a Snakemake that was killed still in SLURM's queue, 1 running")
    assert said[1] == "they have ended"


def test_a_job_that_does_not_end_is_cancelled_and_then_named(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "CANCEL_SECONDS", 0.0)
    (tmp_path / "queue").write_text(line(1, "RUNNING"))
    program(programs / "scancel", f'echo "$@" >> {tmp_path}/said')
    with pytest.raises(UserError, match="SLURM jobs 1 of an earlier Snakemake do not end"):
        slurm.end_orphans(lambda text: None)
    assert (tmp_path / "said").read_text() == "--signal=TERM 1\n1\n"


def test_a_silent_slurm_stops_only_those_who_have_used_it_from_here(programs: Path) -> None:
    program(programs / "squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    assert slurm.jobs_here() == []
    slurm.LOGS.mkdir(parents=True)
    with pytest.raises(UserError, match=r"SLURM does not answer.*Unable to contact"):
        slurm.jobs_here()
