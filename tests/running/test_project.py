"""One Snakemake at a time works in a folder: who it is, who follows it, what a killed one leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from internal_kd import held
from internal_kd.errors import UserError
from internal_kd.held import InUse, read_note, take, wait_for
from internal_kd.running.project import (
    INHERITED,
    RUN,
    SNAKEMAKE,
    STALE,
    at_work,
    check_testable,
    clear_stale_locks,
    end_work,
    group_at_work,
    start_work,
)

# What a Snakefile does, in a process that ends with its input.
WORK = """
import os, sys
from internal_kd.running.project import start_work, end_work
start_work("work/params/abc.yaml", print)
print(os.getpid(), flush=True)
sys.stdin.read()
end_work()
"""


@pytest.fixture(autouse=True)
def _in_a_folder(project: Path) -> Iterator[None]:
    yield
    end_work()


@contextmanager
def snakemake(inherited: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that works as Snakemake does, in a group of its own, with the lock it inherits or takes."""
    with subprocess.Popen(
        [sys.executable, "-c", WORK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **({} if inherited is None else {INHERITED: str(inherited)})},
        pass_fds=[] if inherited is None else [inherited],
    ) as process:
        assert process.stdout and process.stdout.readline().strip() == str(process.pid)
        try:
            yield process
        finally:
            process.kill()


def test_nobody_is_at_work_before_or_after() -> None:
    assert at_work() is None
    start_work("work/params/abc.yaml", print)
    found = at_work()
    assert found and found["what"] == "snakemake" and found["params"] == "work/params/abc.yaml"
    end_work()
    assert at_work() is None and not SNAKEMAKE.exists()


def test_a_second_one_is_refused_with_the_firsts_name() -> None:
    with snakemake(), pytest.raises(UserError, match=r"^snakemake, since .* is at work in this folder"):
        start_work("params.yaml", print)
    start_work("params.yaml", print)


def test_the_lock_that_a_run_hands_down_outlives_the_run_and_not_the_snakemake() -> None:
    hold = take(SNAKEMAKE, {"what": "internal-kd run"})
    with snakemake(hold.descriptor) as process:
        os.close(hold.descriptor)  # as when the run is killed
        found = at_work()
        assert found and (found["what"], found["params"]) == ("internal-kd run", "work/params/abc.yaml")
        assert group_at_work(found) == process.pid
        with pytest.raises(InUse):
            take(SNAKEMAKE)
        process.kill()
        wait_for(SNAKEMAKE)
    assert at_work() is None


def test_jobs_do_not_inherit_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = take(SNAKEMAKE, {"what": "internal-kd run"})
    os.set_inheritable(hold.descriptor, True)
    monkeypatch.setenv(INHERITED, str(hold.descriptor))
    start_work("params.yaml", print)
    assert not os.get_inheritable(hold.descriptor)


@pytest.mark.parametrize("value", ["0", "-1", "999", "none", str(10**30)])
def test_a_variable_that_does_not_name_the_lock_hands_nothing_down(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(INHERITED, value)
    start_work("params.yaml", print)
    found = at_work()
    assert found and found["what"] == "snakemake"
    with pytest.raises(InUse):
        take(SNAKEMAKE)


@pytest.mark.parametrize("path", [SNAKEMAKE, RUN])
def test_what_another_machine_left_on_a_shared_disk_is_left_to_people(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setattr(held, "_kind_of_disk", lambda path: "nfs4")
    path.parent.mkdir()
    path.write_text(json.dumps({"what": "snakemake", "host": "node7", "started": "2026-01-01"}))
    for start in (check_testable, lambda: start_work("params.yaml", print)):
        with pytest.raises(UserError, match=rf"node7.*delete {SNAKEMAKE} and {RUN}"):
            start()
    assert read_note(path)["host"] == "node7"


def test_signals_go_to_no_group_that_does_not_hold_the_lock() -> None:
    with snakemake() as process:
        note = {"what": "internal-kd run", "group": process.pid}
        assert group_at_work(note) == process.pid
        assert group_at_work({**note, "what": "snakemake"}) is None  # somebody's terminal is in this group
    for group in (os.getppid(), process.pid, 1, -1, 0, 10**30, "1", None):
        assert group_at_work({**note, "group": group}) is None


def test_snakemakes_own_locks_are_removed_with_a_line() -> None:
    assert clear_stale_locks() is None
    STALE.mkdir(parents=True)
    assert clear_stale_locks() is None
    (STALE / "0.output.lock").write_text("results/run.json\n")
    assert "killed" in str(clear_stale_locks()) and not STALE.exists()
