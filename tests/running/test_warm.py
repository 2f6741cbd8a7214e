"""A step done by the preloaded process is the step, for whoever waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from internal_kd.operations import preloaded
from internal_kd.operations.preloaded import ADDRESS, done_by_preloaded, preloading

# A module that stands for the command line in the child: it says who it is, and does as it is told.
COMMAND = """
import os, signal, sys, time

def checkpoint(number, frame):
    os.write(1, b"checkpoint\\n")  # the signal may come in the middle of the print below, and no print into a print
    sys.exit(128 + number)

def main(arguments):
    signal.signal(signal.SIGTERM, checkpoint)
    print("child", os.getpid(), os.getcwd(), os.environ.get("MARK"), *arguments, flush=True)
    if "fail" in arguments:
        raise ValueError("as asked")
    if "die" in arguments:
        os.kill(os.getpid(), signal.SIGKILL)
    if "wait" in arguments:
        time.sleep(60)
    return 3 if "three" in arguments else 0
"""
ASK = "import sys; from internal_kd.operations.preloaded import done_by_preloaded as f; sys.exit(f(sys.argv[1:]))"


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A preloaded process whose children run COMMAND; it loads little, as the loading is not what is tried here."""
    folder, before = tmp_path_factory.mktemp("preloaded"), Path.cwd()
    fakes = folder / "fakes"
    fakes.mkdir()
    (fakes / "sitecustomize.py").write_text(
        "import sys, types\n"
        f"cli = types.ModuleType('internal_kd.operations.cli')\nexec({COMMAND!r}, cli.__dict__)\n"
        "sys.modules['internal_kd.operations.cli'] = cli\n"
        "torch = types.ModuleType('torch')\nsys.modules['torch'] = torch\n"
        "torch.set_num_threads, torch.Tensor = lambda n: None, type('Tensor', (), {})\n"
        "import internal_kd.distillation\n"
        "sys.modules['internal_kd.distillation.trainer'] = types.ModuleType('trainer')\n"
    )
    os.chdir(folder)
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(fakes))
    with preloading() as found:
        patch.undo()
        os.chdir(before)
        yield {ADDRESS: str(folder / found[ADDRESS])}
        os.chdir(folder)
    assert not (folder / found[ADDRESS]).exists()
    os.chdir(before)


def ask(surroundings: dict[str, str], folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ASK, "train-student", *words],
        cwd=folder,
        env={**os.environ, **surroundings, "MARK": "mine"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_child_has_the_commands_folder_environment_arguments_files_and_code(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    waiting = ask(surroundings, tmp_path, "three")
    said, _ = waiting.communicate(timeout=60)
    word, pid, folder, mark, *rest = said.split()
    assert (word, folder, mark, rest) == ("child", str(tmp_path), "mine", ["train-student", "three"])
    assert int(pid) != waiting.pid and waiting.returncode == 3


def test_an_error_in_the_child_is_shown_and_is_the_commands(surroundings: dict[str, str], tmp_path: Path) -> None:
    waiting = ask(surroundings, tmp_path, "fail")
    said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1 and "ValueError: as asked" in said


def test_a_child_that_is_killed_is_a_command_that_was_killed(surroundings: dict[str, str], tmp_path: Path) -> None:
    waiting = ask(surroundings, tmp_path, "die")
    said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 137 and "the step's process was killed" in said


def test_a_signal_reaches_the_child_and_its_checkpoint_is_waited_for(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    waiting = ask(surroundings, tmp_path, "wait")
    assert waiting.stdout and waiting.stdout.readline().startswith("child")
    waiting.send_signal(signal.SIGTERM)
    said, _ = waiting.communicate(timeout=60)
    assert said == "checkpoint\n" and waiting.returncode == 128 + signal.SIGTERM


def test_a_child_does_not_outlive_its_command(surroundings: dict[str, str], tmp_path: Path) -> None:
    waiting = ask(surroundings, tmp_path, "wait")
    assert waiting.stdout
    child = int(waiting.stdout.readline().split()[1])
    waiting.kill()
    waiting.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_preloaded_process_the_command_does_it_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    assert done_by_preloaded(["train-student"]) is None
    monkeypatch.setenv(ADDRESS, str(tmp_path / "gone.sock"))
    assert done_by_preloaded(["train-student"]) is None


def test_fetching_and_small_commands_never_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "anything")
    for verb in ("fetch-task", "fetch-encoder", "status", "publish-runs", "--help"):
        assert done_by_preloaded([verb]) is None


def test_it_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    code = (
        "import json, os, time\nfrom internal_kd.operations import preloaded\n"
        "with preloaded.preloading() as found: print(json.dumps(found), flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert owner.stdout and json.loads(owner.stdout.readline())
    (server,) = psutil.Process(owner.pid).children()
    owner.kill()
    owner.wait()
    server.wait(timeout=20)


def test_the_verbs_are_commands() -> None:
    from internal_kd.operations.commands import COMMANDS

    assert set(COMMANDS) >= preloaded.VERBS
