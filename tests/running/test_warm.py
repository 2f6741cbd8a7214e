"""A step that the warm worker does is the step, for whoever waits for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from internal_kd.running import warm
from internal_kd.running.warm import ADDRESS, MODULES, SOCKET, do_warm, warm_worker

# Stands for the command line in the child: it reports who it is, and does as it is told.
STEPS = """
import os, signal, subprocess, sys

def checkpoint(number, frame):
    os.write(1, b"checkpoint\\n")  # the signal may come in the middle of the print below, and no print into a print
    sys.exit(128 + number)

def main(arguments):
    signal.signal(signal.SIGTERM, checkpoint)
    code = subprocess.run([sys.executable, "-c", "raise SystemExit(7)"]).returncode
    mark, worker = os.environ.get("MARK"), os.environ.get("INTERNAL_KD_WARM")
    print("child", os.getcwd(), mark, worker, code, *arguments, flush=True)
    if "fail" in arguments:
        raise ValueError("as asked")
    if "die" in arguments:
        os.kill(os.getpid(), signal.SIGKILL)
    if "wait" in arguments:
        signal.pause()
    return 3 if "three" in arguments else 0
"""
ASK = "import sys; from internal_kd.running.warm import do_warm; sys.exit(do_warm('steps_here:main', sys.argv[1:]))"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A worker that loads next to nothing, since loading is not what is tested here."""
    folder = tmp_path_factory.mktemp("warm")
    with working_in(folder) as found:
        yield found
    assert not (folder / SOCKET).exists()


@contextmanager
def working_in(folder: Path) -> Iterator[str]:
    """Keep a worker for the steps of a package in a folder; yields its address."""
    (folder / "steps_here").mkdir()
    (folder / "steps_here/__init__.py").write_text(STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setattr(warm, "MODULES", ())
        patch.setattr(warm, "OWN", "steps_here")
        with warm_worker() as found:
            yield str(folder / found[ADDRESS])


def ask(address: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ASK, *words],
        cwd=folder,
        env={**os.environ, ADDRESS: address, "MARK": "mine"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_child_has_the_commands_folder_environment_arguments_files_and_code(address: str, tmp_path: Path) -> None:
    waiting = ask(address, tmp_path, "three")
    said, _ = waiting.communicate()
    assert said.split() == ["child", str(tmp_path), "mine", "None", "7", "three"] and waiting.returncode == 3


def test_an_error_in_the_child_is_shown_and_is_the_commands(address: str, tmp_path: Path) -> None:
    waiting = ask(address, tmp_path, "fail")
    said, _ = waiting.communicate()
    assert waiting.returncode == 1 and "ValueError: as asked" in said


def test_a_child_that_is_killed_is_a_command_that_was_killed(address: str, tmp_path: Path) -> None:
    waiting = ask(address, tmp_path, "die")
    said, _ = waiting.communicate()
    assert waiting.returncode == 137 and "killed" in said


def test_a_signal_reaches_the_child_and_its_checkpoint_is_waited_for(address: str, tmp_path: Path) -> None:
    waiting = ask(address, tmp_path, "wait")
    assert waiting.stdout and waiting.stdout.readline().startswith("child")
    waiting.send_signal(signal.SIGTERM)
    said, _ = waiting.communicate()
    assert said == "checkpoint\n" and waiting.returncode == 128 + signal.SIGTERM


def test_a_child_does_not_outlive_its_command(address: str, tmp_path: Path) -> None:
    waiting = ask(address, tmp_path, "wait")
    assert waiting.stdout and waiting.stdout.readline().startswith("child")
    waiting.kill()
    # The child has the other end of this pipe open for as long as it lives.
    assert waiting.stdout.read() == ""
    waiting.wait()


@pytest.mark.parametrize("half", [None, b"", b'{"arguments": ["make"'])
def test_a_client_that_goes_away_with_half_a_request_leaves_no_child(address: str, half: bytes | None) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(address)
        if half is not None:
            line.send(half)
    # One more, which the worker takes up after it.
    assert ask(address, Path.cwd()).wait() == 0
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    # Not the workers that other tests started (tests/forked.py).
    (worker,) = [child for child in living if Path(child.cwd()) in Path(address).parents]
    psutil.wait_procs(worker.children())


def test_once_the_program_was_edited_the_command_does_it_itself(tmp_path: Path) -> None:
    with working_in(tmp_path) as address:
        assert ask(address, tmp_path).communicate()[0].startswith("child")
        (tmp_path / "steps_here/__init__.py").write_text(STEPS + "# another byte\n")
        assert ask(address, tmp_path).communicate()[0] == ""


def test_without_a_worker_the_command_does_it_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "gone.sock"):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(ADDRESS, value)
        assert do_warm("steps_here:main", ["make"]) is None
    monkeypatch.delenv(ADDRESS)
    assert do_warm("steps_here:main", ["make"]) is None


def test_an_environment_too_large_for_a_packet_is_done_by_the_command(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, address)
    for number in range(64):
        monkeypatch.setenv(f"LARGE_{number}", "x" * 100_000)
    assert do_warm("steps_here:main", ["make"]) is None


def test_it_ends_when_the_run_is_killed_and_the_next_one_starts_over_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import sys\nfrom internal_kd.running.warm import *\nwith warm_worker(): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout and owner.stdout.readline()
        owner.kill()
        assert owner.stdout.read() == ""  # the worker has it open for as long as it lives
    assert SOCKET.exists()
    with warm_worker() as found:
        assert found
    assert not SOCKET.exists()


def test_where_sockets_cannot_be_made_there_is_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warm, "SOCKET", tmp_path / ("long" * 40) / "warm.sock")
    with warm_worker() as found:
        assert found == {}


def test_only_its_owner_may_ask_it(address: str) -> None:
    assert Path(address).stat().st_mode & 0o777 == 0o600


def test_what_it_loads_is_there() -> None:
    assert all(find_spec(name) for name in MODULES)
