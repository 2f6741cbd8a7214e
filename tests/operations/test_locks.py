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


def record(pid: int, created: float, host: str | None = None) -> None:
    owner = Owner(host or owners.socket.gethostname(), pid, created, "2026-01-01 12:00:00", "params.yaml")
    write_json(record_of(owner.host, pid), asdict(owner))


def test_without_locks_there_is_nothing_to_clear() -> None:
    assert clear_dead_locks() is None


def test_locks_of_a_dead_owner_are_cleared_with_a_line() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock()
    record(ended.pid, 1.0)
    assert "cleared" in str(clear_dead_locks())
    assert not LOCKS.exists() and owners.owners() == []


def test_locks_without_any_record_are_cleared_when_no_snakemake_works_here() -> None:
    lock()
    assert "cleared" in str(clear_dead_locks())


def test_locks_of_a_living_owner_stay(worker: psutil.Popen) -> None:
    lock()
    record(worker.pid, worker.create_time())
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
    record(worker.pid, worker.create_time())
    assert str(another_at_work()).startswith(f"{line}, started 2026-01-01 12:00:00): wait")


def test_alone_or_with_the_dead_nobody_else_is_at_work() -> None:
    claim(Path("work/params/abc.yaml"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    record(ended.pid, 1.0)
    assert another_at_work() is None


def test_a_number_given_to_another_process_since_does_not_count(worker: psutil.Popen, tmp_path_factory) -> None:
    lock()
    record(worker.pid, worker.create_time() - 3600)
    assert not owners.owners()[0].alive


def test_a_zombie_is_dead() -> None:
    child = psutil.Popen([sys.executable, "-c", ""])
    created = child.create_time()
    while child.status() != psutil.STATUS_ZOMBIE:
        pass
    assert not owners.is_alive(child.pid, created)
    child.wait()


def test_an_owner_on_another_machine_is_left_to_people() -> None:
    lock()
    record(1, 1.0, host="elsewhere")
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
