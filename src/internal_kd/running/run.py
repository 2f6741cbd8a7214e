"""``internal-kd run``: Snakemake, after what a killed one left is cleared away, and a line on progress meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from internal_kd.errors import UserError
from internal_kd.files import writing_failed
from internal_kd.identity import WORK
from internal_kd.operations.config_files import check_arguments
from internal_kd.operations.locks import clear_dead_locks
from internal_kd.operations.owners import owners
from internal_kd.operations.preloaded import preloading
from internal_kd.operations.progress import StudyState, look, summary
from internal_kd.operations.slurm import end_orphans
from internal_kd.params import load_params
from internal_kd.study import plan_study

EVERY_SECONDS = 30.0
# With these, steps may run on other machines.
ELSEWHERE = ("--profile", "--workflow-profile", "--executor", "-e")
CORES = ("--cores", "-c", "--jobs", "-j", *ELSEWHERE)
# Such as "--cores 8 --resources gpu=2", for where none can be given: the stages of dvc.yaml know no machine.
STANDING_ARGUMENTS = "INTERNAL_KD_RUN"
DRY = ("-n", "--dry-run", "--dryrun")


def run(options: argparse.Namespace) -> int:
    """Run Snakemake with the given arguments and return its exit code.

    Raises:
        UserError: an argument or a configuration file is none that Snakemake should see, or another run is at work.
    """
    arguments = [*options.arguments, *_standing_arguments()]
    command = snakemake_command(arguments)
    if not Path("Snakefile").is_file():
        raise UserError(f"{Path.cwd()} holds no Snakefile: change into the project's folder")
    check_arguments(arguments)
    if any(argument in DRY for argument in arguments):
        return _attend(command)
    with _only_one():
        if line := clear_dead_locks():
            _say(line)
        end_orphans(_say)
        if {argument.split("=")[0] for argument in arguments} & set(ELSEWHERE):
            return _attend(command)
        with preloading() as surroundings:
            return _attend(command, surroundings)


def snakemake_command(arguments: Sequence[str]) -> list[str]:
    """Return the command line of Snakemake; without a number of cores or a profile, all cores."""
    given = {argument.split("=")[0] for argument in arguments}
    short = any(argument[:2] in ("-c", "-j") and argument[2:].isdigit() for argument in arguments)
    cores = [] if short or given & set(CORES) else ["--cores", "all"]
    return [sys.executable, "-m", "snakemake", *arguments, *cores]


def _standing_arguments() -> list[str]:
    text = os.environ.get(STANDING_ARGUMENTS, "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{STANDING_ARGUMENTS}={text}: {error}; write it as on a command line") from None


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Hold this folder's lock; the kernel lets go of it when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(WORK / "run.lock")
    try:
        WORK.mkdir(exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        who = next((f" ({owner})" for owner in owners() if owner.alive), "")
        raise UserError(
            f"another `internal-kd run` is at work in this folder{who}; `internal-kd status` shows how far it is"
        ) from None
    except OSError as error:
        raise writing_failed(WORK / "run.lock", error) from error
    try:
        yield
    finally:
        lock.release()


def _attend(command: Sequence[str], surroundings: Mapping[str, str] | None = None) -> int:
    """Run Snakemake in a process group of its own, hand signals on to the group, and tell how it goes."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)

    # Before the child starts: shells let background commands ignore Ctrl-C, and children inherit that from who does.
    former = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    child = subprocess.Popen(command, start_new_session=True, env={**os.environ, **(surroundings or {})})
    for number in early:
        hand_on(number, None)
    ended = threading.Event()
    teller = threading.Thread(target=_tell, args=(child.pid, ended), daemon=True)
    teller.start()
    try:
        code = child.wait()
    finally:
        ended.set()
        for number, handler in former.items():
            signal.signal(number, handler)
    # A negative code is the signal that ended it; shells write that as 128 + number.
    return code if code >= 0 else 128 - code


def _tell(pid: int, ended: threading.Event) -> None:
    """Print one line on progress from time to time; whatever goes wrong here is no reason to stop."""
    state: StudyState | None = None
    while not ended.wait(EVERY_SECONDS):
        with contextlib.suppress(UserError, OSError):
            if state is None:
                owner = next((owner for owner in owners() if owner.here and owner.pid == pid), None)
                if owner is None:
                    continue
                state = look(plan_study(load_params(owner.params)))
            else:
                state = look(state.study, before=state)
            _say(summary(state))


def _say(line: str) -> None:
    print(f"internal-kd: {line}", file=sys.stderr, flush=True)
