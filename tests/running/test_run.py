"""``internal-kd run``: what reaches Snakemake, one run at a time, and what becomes of those that were killed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import pytest

from internal_kd.errors import UserError
from internal_kd.held import held, is_held, read_note, take
from internal_kd.running import run as run_module
from internal_kd.running.overlays import spread_overlays
from internal_kd.running.project import RUN, SNAKEMAKE, STALE, group_at_work
from internal_kd.running.run import DRY, _attend, _wait, run, run_parser, snakemake_command

SNAKEFILE = """
from internal_kd.running.project import end_work, start_work

onstart:
    start_work("params.yaml", print)

onsuccess:
    end_work()

onerror:
    end_work()

rule train:
    output: "done"
    shell: "exec python {wait} {{output}}"
"""
# A training: it ends when its pipe does, and writes a checkpoint when it is asked to stop.
TRAINING = """
import signal, sys
def checkpoint(*_):
    open("checkpoint", "w").close()
    sys.exit(1)
signal.signal(signal.SIGTERM, checkpoint)
open("pipe").read()
open(sys.argv[1], "w").close()
"""
START = "import sys; from internal_kd.running.run import run; sys.exit(run(sys.argv[1:]))"


def test_everything_else_goes_to_snakemake_and_overlays_are_its_configfiles() -> None:
    files = ["a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml"]
    given = ["-n", "all", "--overlay", "a.yaml", "--config", "x=1", "--configfile=b.yaml", "--no-wait", "--configfiles"]
    given = spread_overlays([*given, "c.yaml", "d.yaml", "--overlay=e.yaml", "--cores", "2"])
    options, passed = run_parser().parse_known_args(given)
    assert options.overlay == files and options.no_wait
    assert passed == ["-n", "all", "--config", "x=1", "--cores", "2"]
    assert snakemake_command(passed, options.overlay)[3:] == [*passed, "--configfile", *files]


def test_targets_after_two_dashes_stay_targets() -> None:
    options, passed = run_parser().parse_known_args(["--overlay", "a", "-c1", "--", "students"])
    assert snakemake_command(passed, options.overlay)[3:] == ["-c1", "--configfile", "a", "--", "students"]


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["--cores", "all"]),
        (["--cores", "2"], []),
        (["--cores=2"], []),
        (["-c2"], []),
        (["-j", "4"], []),
        (["--workflow-profile", "profiles/slurm"], []),
        (["--config", "a=1"], ["--cores", "all"]),
    ],
)
def test_all_cores_are_used_unless_said_otherwise(given: list[str], added: list[str]) -> None:
    assert snakemake_command(given)[3:] == [*given, *added]


@pytest.mark.parametrize("argument", ["-n", "-np", "-pn", "--dry-run", "--dryrun"])
def test_a_dry_run_is_known_by_all_its_names(argument: str) -> None:
    assert DRY.fullmatch(argument)
    assert not any(DRY.fullmatch(other) for other in ("--notemp", "--no-lock", "-p", "-j1", "n"))


@pytest.mark.parametrize("snakefile", [None, "rule one:\n    shell: 'true'\n"], ids=["no Snakefile", "another's"])
def test_a_folder_that_is_not_a_project_is_refused(project: Path, snakefile: str | None) -> None:
    if snakefile:
        Path("Snakefile").write_text(snakefile)
    with pytest.raises(UserError, match=rf"{project}.*change into"):
        run(["--cores", "1"])
    assert not Path("work").exists()


def test_standing_arguments_that_cannot_be_read_are_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNAL_KD_RUN", '"--cores')
    with pytest.raises(UserError, match=r'^INTERNAL_KD_RUN="--cores: '):
        run([])


def test_overlays_are_read_strictly_before_snakemake_reads_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("Snakefile").write_text(SNAKEFILE)
    Path("evil.yaml").write_text("__use_yte__: true\nstudy: ?open('pwned', 'w')\n")
    for arguments in (["--configfile", "evil.yaml"], ["--overlay", "evil.yaml"]):
        with pytest.raises(UserError, match=r"^evil\.yaml: __use_yte__"):
            run(arguments)
        monkeypatch.setenv("INTERNAL_KD_RUN", " ".join(arguments))
        with pytest.raises(UserError, match=r"^evil\.yaml: __use_yte__"):
            run([])
        monkeypatch.delenv("INTERNAL_KD_RUN")
    with pytest.raises(UserError, match="nowhere"):
        run(["--overlay", "nowhere.yaml"])
    assert not Path("pwned").exists()


@pytest.mark.parametrize("lock", [RUN, SNAKEMAKE])
def test_a_run_that_is_not_to_wait_ends_with_one_line(project: Path, lock: Path) -> None:
    Path("Snakefile").write_text(SNAKEFILE)
    with held(lock, {"what": "a test"}), pytest.raises(UserError, match=r"^a test, since .* is at work in this folder"):
        run(["--no-wait"])


def test_a_disk_without_locks_stops_nobody_and_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(run_module, "snakemake_command", lambda *_: [sys.executable, "-c", "raise SystemExit(7)"])
    Path("Snakefile").write_text(SNAKEFILE)
    assert run(["--executor", "local"]) == 7
    assert "work/ has no file locks" in capsys.readouterr().err
    with held(RUN, {"host": "node7"}), pytest.raises(UserError, match="node7"):
        run([])


def test_what_a_job_found_damaged_is_made_again_by_one_more_start(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("Snakefile").write_text(SNAKEFILE)
    folder = Path("work/inputs/rte-0123456789ab")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    Path("job.py").write_text(
        "from pathlib import Path\n"
        "from internal_kd.checksums import refuse_damaged\n"
        f"folder = Path({str(folder)!r})\n"
        "if (folder / 'manifest.json').exists():\n"
        "    refuse_damaged(folder, 'train.ids.npy differs')\n"
        "raise SystemExit(1)\n"
    )
    monkeypatch.setattr(run_module, "snakemake_command", lambda *_: [sys.executable, "job.py"])
    for starts in (2, 1):  # an old mark starts nothing
        assert run(["--executor", "local"]) == 1
        assert capsys.readouterr().err.count("starting again") == starts - 1


@pytest.mark.parametrize("fails", [False, True])
def test_whoever_waits_sees_the_progress_of_the_study_at_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    monkeypatch.setattr(run_module, "EVERY_SECONDS", 0.01)
    hold = take(SNAKEMAKE, {"what": "snakemake", "params": "work/params/abc.yaml"})
    asked: list[Path] = []

    def progress(params: Path) -> str:
        asked.append(params)
        if len(asked) == 2:
            hold.release()
        if fails:
            raise UserError("params.yaml has changed")
        return "3 done, 1 running"

    _wait(SNAKEMAKE, progress)
    assert set(asked) == {Path("work/params/abc.yaml")}
    shown = capsys.readouterr().err.splitlines()
    assert shown == ([] if fails else ["internal-kd: 3 done, 1 running"]), "a line is printed once"


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_exit_code_is_passed_on(code: int) -> None:
    assert _attend([sys.executable, "-c", f"raise SystemExit({code})"]) == code


def test_a_child_killed_by_a_signal_ends_as_in_a_shell() -> None:
    assert _attend([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_whole_group_and_is_waited_for(number: signal.Signals) -> None:
    # The child and its own child both report the signal on the one pipe that they share; it ends with the last of them.
    note = (
        "import os, signal, subprocess, sys\n"
        "def note(*_): os.write(1, b'noted\\n'); raise SystemExit(5)\n"
        f"signal.signal({int(number)}, note)\n"
    )
    pause = "os.write(1, b'ready\\n')\nwhile True: signal.pause()\n"
    child = note + f"subprocess.Popen([sys.executable, '-c', {note + pause!r}])\n{pause}"
    code = (
        f"from internal_kd.running.run import _attend\nraise SystemExit(_attend([{sys.executable!r}, '-c', {child!r}]))"
    )
    # A shell without job control starts background commands with SIGINT ignored.
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
    with subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE, text=True) as attending:
        assert attending.stdout and [attending.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        attending.send_signal(number)
        assert attending.stdout.read() == "noted\n" * 2
        assert attending.wait() == 5


# From here on a real Snakemake works.


@pytest.fixture
def folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one training, that ends when the test closes its pipe."""
    Path("train.py").write_text(TRAINING)
    Path("Snakefile").write_text(SNAKEFILE.format(wait="train.py"))
    os.mkfifo("pipe")
    for name in [name for name in os.environ if name.startswith("SNAKEMAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return project


@pytest.fixture
def processes(folder: Path) -> Iterator[ExitStack]:
    """What is started here ends with the test, a Snakemake that has lost its parent included."""
    with ExitStack() as stack:
        yield stack
        if is_held(SNAKEMAKE) and (group := group_at_work(read_note(SNAKEMAKE))):
            os.killpg(group, signal.SIGKILL)


def start(processes: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    """Start ``internal-kd run``."""
    command = [sys.executable, "-c", START, "--cores", "1", "--quiet", "all", *arguments]
    process = processes.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    processes.callback(process.kill)
    return process


def in_training() -> TextIO:
    """Return the pipe that the training waits for, as soon as it does."""
    return Path("pipe").open("w")


def said(process: subprocess.Popen[str], word: str) -> str:
    """Return the first line on stderr with a word in it."""
    assert process.stderr
    return next(line for line in process.stderr if word in line)


@pytest.mark.slow
def test_a_snakemake_whose_run_was_killed_is_taken_over_and_its_work_is_not_done_twice(
    folder: Path, processes: ExitStack
) -> None:
    first = start(processes)
    pipe = in_training()
    second = start(processes)
    assert "internal-kd run, since" in said(second, "waiting")
    first.kill()
    said(second, "taken over")
    pipe.close()
    assert second.wait() == 0 and Path("done").exists() and not Path("checkpoint").exists()
    assert not any(Path("work").glob("*.lock")) and not any(STALE.glob("*"))


@pytest.mark.slow
def test_ending_the_run_that_took_over_ends_the_snakemake_with_its_checkpoint(
    folder: Path, processes: ExitStack
) -> None:
    first = start(processes)
    pipe = in_training()
    first.kill()
    first.wait()
    second = start(processes)
    said(second, "taken over")
    second.terminate()
    assert second.wait() == 128 + signal.SIGTERM
    assert Path("checkpoint").exists() and not Path("done").exists()
    pipe.close()


@pytest.mark.slow
def test_a_snakemake_started_by_hand_is_waited_for_and_what_it_leaves_when_killed_is_cleared(
    folder: Path, processes: ExitStack
) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"]
    by_hand = subprocess.Popen(command, start_new_session=True)
    pipe = in_training()
    assert any(STALE.iterdir())
    waiting = start(processes)
    assert "snakemake, since" in said(waiting, "waiting")
    os.killpg(by_hand.pid, signal.SIGKILL)
    by_hand.wait()
    pipe.close()
    said(waiting, "removed")
    in_training().close()
    assert waiting.wait() == 0 and Path("done").exists()


@pytest.mark.slow
def test_standing_arguments_and_dry_runs_beside_a_run_at_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERNAL_KD_RUN", "-np --cores 1")
    with held(RUN), held(SNAKEMAKE):
        assert run(["train"]) == 0
    assert "This was a dry-run" in "".join(capfd.readouterr())
    assert not Path("done").exists()
