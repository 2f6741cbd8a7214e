import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from internal_kd.errors import UserError
from internal_kd.files import write_json
from internal_kd.operations import owners
from internal_kd.operations.locks import LOCKS, another_at_work, clear_dead_locks, snakemakes_here
from internal_kd.operations.owners import Owner, claim, record_of, release
from internal_kd.processes import start_of


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def worker() -> Iterator[psutil.Popen]:
    """A living process that works in this folder and calls itself snakemake."""
    Path("snakemake").write_text("import time; time.sleep(120)")
    process = psutil.Popen([sys.executable, "snakemake"])
    yield process
    process.kill()
    process.wait()


def lock() -> None:
    LOCKS.mkdir(parents=True)
    (LOCKS / "0.output.lock").write_text("results/run.json\n")


def record(pid: int, process: str | None = "long ago", host: str | None = None) -> None:
    owner = Owner(host or socket.gethostname(), pid, str(process), "2026-01-01 12:00:00", "params.yaml")
    write_json(record_of(owner.host, pid), asdict(owner))


def test_without_locks_there_is_nothing_to_clear() -> None:
    assert clear_dead_locks() is None


def test_locks_of_a_dead_owner_are_cleared_with_a_line() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock()
    record(ended.pid)
    assert "cleared" in str(clear_dead_locks())
    assert not LOCKS.exists() and owners.owners() == []


def test_locks_without_any_record_are_cleared_when_no_snakemake_works_here() -> None:
    lock()
    assert "cleared" in str(clear_dead_locks())


def test_locks_of_a_living_owner_stay(worker: psutil.Popen) -> None:
    lock()
    record(worker.pid, start_of(worker.pid))
    with pytest.raises(UserError, match=rf"at work in this folder \(process {worker.pid}, started"):
        clear_dead_locks()
    assert LOCKS.exists()


def test_a_living_snakemake_without_a_record_is_seen(worker: psutil.Popen) -> None:
    lock()
    assert snakemakes_here() == [worker.pid]
    with pytest.raises(UserError, match=rf"process {worker.pid}"):
        clear_dead_locks()
    assert LOCKS.exists()


def test_another_one_at_work_is_named_once_recorded_or_not(worker: psutil.Popen) -> None:
    line = f"another snakemake is at work in this folder (process {worker.pid}"
    assert str(another_at_work()).startswith(f"{line}): wait for it, or end it, and start again")
    record(worker.pid, start_of(worker.pid))
    assert str(another_at_work()).startswith(f"{line}, started 2026-01-01 12:00:00): wait")


def test_alone_or_with_the_dead_nobody_else_is_at_work() -> None:
    claim(Path("work/params/abc.yaml"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    record(ended.pid)
    assert another_at_work() is None


def test_a_number_given_to_another_process_since_does_not_count(worker: psutil.Popen, tmp_path_factory) -> None:
    lock()
    record(worker.pid)
    assert not owners.owners()[0].alive


def test_a_clock_that_is_set_makes_no_living_owner_dead(worker: psutil.Popen, monkeypatch: pytest.MonkeyPatch) -> None:
    lock()
    record(worker.pid, start_of(worker.pid))
    claim(Path("work/params/abc.yaml"))
    before = worker.create_time()
    # Every time psutil tells is the boot's plus what has passed since, and the boot's moves with the clock.
    shifted = psutil._psplatform.boot_time() + 7200
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: shifted)
    assert psutil.Process(worker.pid).create_time() == pytest.approx(before + 7200, abs=2)
    assert [owner.alive for owner in owners.owners()] == [True, True]
    with pytest.raises(UserError, match="at work in this folder"):
        clear_dead_locks()
    assert LOCKS.exists()


@pytest.mark.parametrize("text", ["[1]", "null", "{", '{"host": "here"}', '{"pid": "x"}'])
def test_what_is_no_record_stands_in_nobodys_way(text: str) -> None:
    lock()
    owners.OWNERS.mkdir(parents=True)
    (owners.OWNERS / "here-1.json").write_text(text)
    assert owners.owners() == []
    assert "cleared" in str(clear_dead_locks())
    assert list(owners.OWNERS.iterdir()) == []


def test_an_owner_on_another_machine_is_left_to_people() -> None:
    lock()
    record(1, host="elsewhere")
    with pytest.raises(UserError, match=r"process 1 on elsewhere.*snakemake --unlock"):
        clear_dead_locks()
    assert LOCKS.exists()


def test_a_claim_names_this_process_until_it_is_released() -> None:
    claim(Path("work/params/abc.yaml"))
    (owner,) = owners.owners()
    assert owner.alive and owner.here and owner.params == "work/params/abc.yaml"
    release()
    assert owners.owners() == []


def test_a_process_that_a_clusters_queue_has_started_here_is_no_owner() -> None:
    Path("snakemake").write_text("import time; time.sleep(120)")
    worker = psutil.Popen([sys.executable, "snakemake", "--mode", "remote"])
    try:
        lock()
        assert snakemakes_here() == []
        assert "cleared" in str(clear_dead_locks())
    finally:
        worker.kill()
        worker.wait()
