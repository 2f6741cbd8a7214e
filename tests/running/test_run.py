import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.operations.cli import main
from internal_kd.operations.run import _attend, _only_one, snakemake_command


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["--cores", "all"]),
        (["--configfile", "config/demo.yaml"], ["--cores", "all"]),
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


def test_standing_arguments_come_after_those_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text("rule one:\n    shell: 'true'\n")
    monkeypatch.setenv("INTERNAL_KD_RUN", "--dry-run --cores 1")
    assert main(["run", "one"]) == 0
    assert "This was a dry-run" in "".join(capfd.readouterr())


def test_a_folder_without_the_pipeline_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--cores", "1"]) == 1
    assert "holds no Snakefile" in capsys.readouterr().err


def test_only_one_at_a_time_and_the_lock_goes_with_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = (
        "import time\nfrom internal_kd.operations.run import _only_one\n"
        "with _only_one(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another `internal-kd run` is at work"), _only_one():
        pass
    holder.kill()
    holder.wait()
    with _only_one():
        pass


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_exit_code_is_passed_on(code: int) -> None:
    assert _attend([sys.executable, "-c", f"raise SystemExit({code})"]) == code


def test_a_child_killed_by_a_signal_ends_as_in_a_shell() -> None:
    assert _attend([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_whole_group_and_is_waited_for(number: signal.Signals, tmp_path: Path) -> None:
    # The child and its own child both note the signal; only then does the attending process end, with the child's code.
    note = (
        "import pathlib, signal, sys, time\n"
        "def note(*_): pathlib.Path(sys.argv[1]).write_text('told'); raise SystemExit(5)\n"
        f"signal.signal({int(number)}, note)\n"
    )
    (tmp_path / "grandchild.py").write_text(note + "pathlib.Path(sys.argv[2]).touch(); time.sleep(60)")
    (tmp_path / "child.py").write_text(
        note + "import subprocess\nsubprocess.Popen([sys.executable, *sys.argv[2:]]); time.sleep(60)"
    )
    told = [tmp_path / "child", tmp_path / "grandchild"]
    ready = tmp_path / "ready"
    scripts = [str(tmp_path / name) for name in ("child.py", "grandchild.py")]
    command = [sys.executable, scripts[0], str(told[0]), scripts[1], str(told[1]), str(ready)]
    code = f"from internal_kd.operations.run import _attend\nraise SystemExit(_attend({command!r}))"
    attending = subprocess.Popen([sys.executable, "-c", code])
    _wait_for(ready)
    os.kill(attending.pid, number)
    assert attending.wait(timeout=30) == 5
    for path in told:
        _wait_for(path)


def test_a_background_command_of_a_script_can_be_interrupted_too(tmp_path: Path) -> None:
    # A shell without job control starts it with SIGINT ignored; Python then does not turn it into KeyboardInterrupt.
    ready = tmp_path / "ready"
    child = [sys.executable, "-c", f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"]
    code = f"from internal_kd.operations.run import _attend\nraise SystemExit(_attend({child!r}))"
    ignoring = f"import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
    attending = subprocess.Popen([sys.executable, "-c", ignoring])
    _wait_for(ready)
    os.kill(attending.pid, signal.SIGINT)
    assert attending.wait(timeout=30) == 128 + signal.SIGINT


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
