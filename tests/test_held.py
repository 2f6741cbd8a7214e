"""Alive means "holds its lock": whatever ends a process frees it, and nothing else does."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from internal_kd import held as held_module
from internal_kd.errors import UserError
from internal_kd.held import InUse, describe, held, is_held, read_note, take, untested, wait_for

HOLD = "import sys; from internal_kd.held import take; h = take(sys.argv[1], {'what': 'a test'}); print(flush=True); "
WAIT = HOLD + "sys.stdin.read()"


@contextmanager
def holder(path: Path, code: str = WAIT, *before: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    command = [*before, sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "one.lock"


def test_a_lock_is_held_during_the_block_and_leaves_nothing_behind(lock: Path) -> None:
    assert not is_held(lock)
    with held(lock, {"what": "a test"}):
        assert is_held(lock)
        with pytest.raises(InUse) as caught, held(lock):
            pass
        assert caught.value.note["what"] == "a test" and str(lock) in str(caught.value)
    assert not is_held(lock) and not lock.exists()


def test_a_killed_process_holds_nothing(lock: Path) -> None:
    with holder(lock) as process:
        assert is_held(lock)
        process.kill()
        process.wait()
        assert not is_held(lock)
        assert read_note(lock)["what"] == "a test"  # for people: who it was
        with held(lock):
            assert "what" not in read_note(lock)


@pytest.mark.parametrize("ends", ["kill", "communicate"])
def test_waiting_ends_with_the_holder_however_that_ends(lock: Path, ends: str) -> None:
    with holder(lock) as process:
        over = threading.Event()
        thread = threading.Thread(target=lambda: (wait_for(lock), over.set()))
        thread.start()
        assert not over.wait(0.05)
        getattr(process, ends)()
        thread.join()
    wait_for(lock)


def test_a_child_that_inherits_the_descriptor_goes_on_holding_it(lock: Path) -> None:
    # The child's output, which ends with it, is the parent's: it tells when both have ended.
    code = HOLD + (
        "import os, subprocess\n"
        "subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], pass_fds=[h.descriptor])\n"
        "print(flush=True); os.kill(os.getpid(), 9)"
    )
    with holder(lock, code) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        process.wait()
        assert is_held(lock)
        process.stdin.close()
        wait_for(lock)


def test_those_who_look_are_never_taken_for_holders(lock: Path) -> None:
    lock.parent.mkdir()
    lock.touch()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_held(lock)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        take(lock).release()
    over.set()
    for thread in threads:
        thread.join()


def test_of_many_that_want_it_one_has_it_at_a_time(lock: Path) -> None:
    inside: list[int] = []
    taken = 0

    def work() -> None:
        nonlocal taken
        for _ in range(50):
            try:
                with held(lock):
                    inside.append(1)
                    assert len(inside) == 1
                    taken += 1
                    inside.pop()
            except InUse:
                wait_for(lock)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken >= 50 and not lock.exists()


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root for another namespace")
def test_a_process_in_another_pid_namespace_is_seen_from_both_sides(lock: Path) -> None:
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--uts", "--kill-child")
    with holder(lock, WAIT, *inside):
        assert is_held(lock)
    wait_for(lock)
    look = f"from internal_kd.held import is_held; print(is_held({str(lock)!r}))"
    with held(lock):
        done = subprocess.run([*inside, sys.executable, "-c", look], capture_output=True, text=True)
        assert done.stdout == "True\n"


def test_the_note_says_where_since_when_and_what(lock: Path) -> None:
    with held(lock, {"what": "rte/stacked/seed1"}) as hold:
        note = read_note(lock)
        assert note["host"] == socket.gethostname()
        assert describe(note) == f"rte/stacked/seed1, since {note['started']}"
        hold.write({"what": "shorter", "host": "node7"})
        assert describe(read_note(lock)).startswith("shorter on node7, since 20")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\ud800"])
def test_what_is_not_a_note_is_an_empty_one(lock: Path, text: str) -> None:
    lock.parent.mkdir()
    lock.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert read_note(lock) == {} and untested(lock) is None
    assert "another process" in describe({})


def left_by(lock: Path, host: str) -> None:
    lock.parent.mkdir()
    lock.write_text(json.dumps({"host": host, "what": "a test", "started": "2026-01-01"}))


@pytest.mark.parametrize(("disk", "reported"), [("nfs4", True), ("lustre", True), ("", True), ("ext4", False)])
def test_a_lock_of_another_machine_counts_as_free_only_on_a_disk_of_one_machine(
    lock: Path, monkeypatch: pytest.MonkeyPatch, disk: str, reported: bool
) -> None:
    monkeypatch.setattr(held_module, "_kind_of_disk", lambda path: disk)
    left_by(lock, "node7")
    assert bool(untested(lock)) == reported


def test_a_lock_of_this_machine_can_always_be_tested(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_module, "_kind_of_disk", lambda path: "nfs4")
    left_by(lock, socket.gethostname())
    assert untested(lock) is None


def test_the_disk_here_has_a_kind(lock: Path) -> None:
    lock.parent.mkdir()
    assert held_module._kind_of_disk(lock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_on_a_disk_without_locks_work_goes_on_and_any_note_is_reported(
    lock: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(lock) as hold:
        assert not hold.locked and not is_held(lock)
        assert untested(lock)
    assert untested(lock) is None


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"one\.lock"):
        take(tmp_path / "file" / "one.lock")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "one.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"one\.lock"):
        take(tmp_path / "one.lock")
    assert (tmp_path / "precious").read_text() == "mine"
