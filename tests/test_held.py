"""A process is told from all others, by what no clock and no reuse of its number changes."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from internal_kd import processes
from internal_kd.processes import is_alive, start_of


def test_a_process_is_the_same_as_long_as_it_lives(worker: subprocess.Popen) -> None:
    start = start_of(worker.pid)
    assert start and is_alive(worker.pid, start) and start_of(worker.pid) == start
    assert not is_alive(worker.pid, f"{start}0")
    worker.kill()
    worker.wait()
    assert start_of(worker.pid) is None and not is_alive(worker.pid, start)


def test_a_zombie_is_dead() -> None:
    child = psutil.Popen([sys.executable, "-c", ""])
    while child.status() != psutil.STATUS_ZOMBIE:
        pass
    assert start_of(child.pid) is None
    child.wait()


@pytest.mark.parametrize("pid", [-1, 10**12, 2**31 - 1])
def test_a_number_no_process_has_is_dead(pid: int) -> None:
    assert start_of(pid) is None


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="only Linux keeps /proc/<pid>/stat")
def test_a_name_with_brackets_and_spaces_is_read_past(tmp_path: Path) -> None:
    sleep = tmp_path / "a) R 1 (b"
    sleep.symlink_to("/bin/sleep")
    process = subprocess.Popen([sleep, "60"])
    try:
        ticks = int(str(start_of(process.pid)).split()[1])
        assert ticks >= int(str(start_of(os.getpid())).split()[1])
    finally:
        process.kill()
        process.wait()


def test_a_process_of_before_the_last_boot_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / str(os.getpid())).mkdir()
    (tmp_path / f"{os.getpid()}/stat").write_text(f"{os.getpid()} (python) {' '.join(map(str, range(3, 53)))}")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    found = []
    for boot in ("first", "second"):
        (tmp_path / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
        found.append(start_of(os.getpid()))
    assert found == ["first 22", "second 22"]


def test_where_there_is_no_proc_the_time_of_the_start_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: subprocess.Popen
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    created = str(psutil.Process(worker.pid).create_time())
    assert start_of(worker.pid) == created and is_alive(worker.pid, created)


def test_a_process_that_may_not_be_looked_at_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: psutil.Process) -> str:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "status", refuse)
    assert is_alive(os.getpid(), "unknown")
