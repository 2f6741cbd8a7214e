"""``internal-kd run``: Snakemake, after what a killed one left is cleared away, and a line on progress meanwhile.

    internal-kd run --cores 8 --resources gpu=2
    internal-kd run --overlay config/demo.yaml           while another runs here: shows its progress, then starts
    internal-kd run --workflow-profile profiles/slurm    on a cluster

Everything but overlays and ``--no-wait`` goes to snakemake as it is, and after it what the environment variable
INTERNAL_KD_RUN holds, for where no arguments can be given: the stages of dvc.yaml know no machine.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from internal_kd.errors import UserError
from internal_kd.held import Hold, InUse, describe, held, wait_for
from internal_kd.running.overlays import OVERLAY_FLAGS, OVERLAY_SETTINGS, spread_overlays
from internal_kd.running.parameter_files import check_config_files
from internal_kd.running.project import (
    INHERITED,
    RUN,
    SNAKEMAKE,
    at_work,
    check_testable,
    clear_stale_locks,
    found_damaged,
    group_at_work,
)
from internal_kd.running.showing import show_meanwhile
from internal_kd.running.slurm import end_orphans
from internal_kd.running.warm import warm_worker

# The progress of the study in a parameter file, in one line; None if there is nothing to show.
Progress = Callable[[Path], str | None]

EVERY_SECONDS = 30.0
STANDING_ARGUMENTS = "INTERNAL_KD_RUN"
# With these, steps may run on other machines.
ELSEWHERE = frozenset({"--profile", "--workflow-profile", "--executor", "-e"})
CORES = ELSEWHERE | {"--cores", "-c", "--jobs", "-j"}
# Also among other letters: `-np` is how Snakemake's own documentation asks for a dry run.
DRY = re.compile(r"--dry-run|--dryrun|-[pFk]*n[a-zA-Z]*")


def run_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments that are not Snakemake's."""
    parser = argparse.ArgumentParser(prog="internal-kd run", add_help=False, allow_abbrev=False)
    parser.add_argument(*OVERLAY_FLAGS, **OVERLAY_SETTINGS)
    parser.add_argument("--no-wait", action="store_true", help="end at once if a run is at work in this folder")
    return parser


def run(arguments: Sequence[str], progress: Progress = lambda params: None) -> int:
    """Run Snakemake with the given arguments and return its exit code.

    While another ``internal-kd run`` is at work in this folder, its progress is shown and its end awaited; a Snakemake
    whose ``internal-kd run`` was killed is taken over: signals reach it, and what it leaves is made afterwards.

    What a job found damaged is made again by one more start.

    Raises:
        UserError: this is not a project's folder, a parameter file cannot be read, or with ``--no-wait`` somebody is
            at work.
    """
    options, passed = run_parser().parse_known_args(spread_overlays([*arguments, *_standing_arguments()]))
    _check_folder()
    check_config_files(options.overlay)
    command = snakemake_command(passed, options.overlay)
    if any(DRY.fullmatch(argument) for argument in passed):
        return _attend(command)
    with _own_turn(options.no_wait, progress) as hold:
        if not hold.locked:
            _say(f"the disk of {SNAKEMAKE.parent}/ has no file locks: make sure that nobody else starts a run here")
        if line := clear_stale_locks():
            _say(line)
        end_orphans(_say)
        with nullcontext() if _flags(passed) & ELSEWHERE else warm_worker() as warm:
            surroundings, started = {**(warm or {}), INHERITED: str(hold.descriptor)}, time.time()
            code = _attend(command, surroundings, hold, progress)
            if code == 1 and found_damaged(started):
                _say("a file was found damaged: starting again, to make it again")
                code = _attend(command, surroundings, hold, progress)
            return code


def snakemake_command(arguments: Sequence[str], overlays: Sequence[str] = ()) -> list[str]:
    """Return the command line of Snakemake; without a number of cores or a profile, all cores."""
    short = any(re.fullmatch(r"-[cj]\d+", argument) for argument in arguments)
    cores = [] if short or _flags(arguments) & CORES else ["--cores", "all"]
    # After the targets: --configfile takes all that follows it up to the next option, targets too.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    files = ["--configfile", *overlays] if overlays else []
    return [sys.executable, "-m", "snakemake", *arguments[:end], *files, *cores, *arguments[end:]]


def _flags(arguments: Sequence[str]) -> set[str]:
    return {argument.split("=")[0] for argument in arguments}


def _standing_arguments() -> list[str]:
    text = os.environ.get(STANDING_ARGUMENTS, "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{STANDING_ARGUMENTS}={text}: {error}; write it as on a command line") from None


def _check_folder() -> None:
    try:
        text = Path("Snakefile").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"{Path.cwd()} has no Snakefile, so it is not an internal-kd project: change into the folder that holds "
            "your Snakefile and params.yaml, or make one by cloning the repository"
        ) from None
    except OSError as error:
        raise UserError(f"Snakefile cannot be read ({error.strerror}): make it readable and start again") from None
    if not re.search("internal.kd", text):
        raise UserError(
            f"the Snakefile in {Path.cwd()} belongs to another project: start that one with `snakemake`, or change "
            "into your internal-kd project"
        )


@contextmanager
def _own_turn(no_wait: bool, progress: Progress) -> Iterator[Hold]:
    """Hold this folder's two locks, after those who hold them have ended."""
    check_testable()
    with ExitStack() as locks:
        note = {"what": "internal-kd run"}
        # A Snakemake that nobody follows was started by hand, or the run that started it was killed.
        for path, follow in ((RUN, _wait_for_run), (SNAKEMAKE, _follow)):
            while True:
                try:
                    hold = locks.enter_context(held(path, note))
                    break
                except InUse as error:
                    _refuse_or_announce(error, no_wait)
                    follow(error.note, progress)
        yield hold


def _refuse_or_announce(error: InUse, no_wait: bool) -> None:
    who = describe(at_work() or error.note)
    if no_wait:
        raise UserError(f"{who} is at work in this folder: `internal-kd status` shows how far it is") from None
    _say(f"{who} is at work in this folder: waiting for its end (--no-wait: do not wait)")


def _wait_for_run(note: Mapping[str, Any], progress: Progress) -> None:
    _wait(RUN, progress)


def _follow(note: Mapping[str, Any], progress: Progress) -> None:
    """Wait for a Snakemake's end, as its own ``internal-kd run`` would: signals are handed on to it."""
    group = group_at_work(note)
    if group is None:
        _wait(SNAKEMAKE, progress)
        return
    with _signals_to(lambda number: os.killpg(group, number)) as received:
        _say("the run that started it was killed: taken over, Ctrl-C ends it")
        _wait(SNAKEMAKE, progress)
    if received:
        raise SystemExit(128 + received[0])


def _wait(path: Path, progress: Progress) -> None:
    """Wait until nobody holds a lock, and show the holder's progress."""
    ended = threading.Event()

    def watch() -> None:
        with suppress(UserError, OSError):
            wait_for(path)
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    _show(progress, ended)


def _attend(
    command: Sequence[str],
    surroundings: Mapping[str, str] | None = None,
    hold: Hold | None = None,
    progress: Progress | None = None,
) -> int:
    """Run Snakemake in a process group of its own, hand signals on to the group, and show the progress.

    The child inherits the lock ``hold`` and goes on holding it if this process is killed.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int) -> None:
        if child is None:
            early.append(number)
        else:
            os.killpg(child.pid, number)

    # Before the child starts: shells let background commands ignore Ctrl-C, and children inherit that.
    with _signals_to(hand_on):
        child = subprocess.Popen(
            command,
            start_new_session=True,
            env={**os.environ, **(surroundings or {})},
            pass_fds=[hold.descriptor] if hold else [],
        )
        for number in early:
            os.killpg(child.pid, number)
        ended = threading.Event()
        if progress:
            threading.Thread(target=_show, args=(progress, ended), daemon=True).start()
            threading.Thread(target=show_meanwhile, args=(ended,), daemon=True).start()
        try:
            code = child.wait()
        finally:
            ended.set()
    # A negative code is the signal that ended it; shells write that as 128 + number.
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_to(hand_on: Callable[[int], None]) -> Iterator[list[int]]:
    """Hand SIGINT and SIGTERM on during the block; yield the list of those that came."""
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        received.append(number)
        with suppress(ProcessLookupError):
            hand_on(number)

    former = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def _show(progress: Progress, ended: threading.Event) -> None:
    """Print a line on progress from time to time until the event is set; nothing that fails here stops a run."""
    last = None
    while not ended.is_set():
        with suppress(UserError, OSError):
            params = (at_work() or {}).get("params")
            if params and (line := progress(Path(params))) and line != last:
                last = line
                _say(line)
        ended.wait(EVERY_SECONDS)


def _say(line: str) -> None:
    print(f"internal-kd: {line}", file=sys.stderr, flush=True)
