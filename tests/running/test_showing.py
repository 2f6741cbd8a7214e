"""A study is shown in MLflow while it runs, by a process that can neither slow nor outlive its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from internal_kd.held import held
from internal_kd.running.project import SNAKEMAKE
from internal_kd.running.showing import show_meanwhile
from tiny_study import wait_until

# In the place of `internal-kd publish-runs`: notes its priority and what it was asked for.
PUBLISHER = """
import os, sys, time
with open("calls", "a") as file:
    print(os.nice(0), *sys.argv[1:], file=file)
time.sleep(600 if "--follow" in sys.argv else 0)
"""
COMMAND = [sys.executable, "-c", PUBLISHER]
ASKED = ["--params p.yaml --follow", "--params p.yaml"]


def calls() -> list[str]:
    """What it was asked for so far; each time at the lowest priority that this process, as it is now, can give."""
    path = Path("calls")
    noted = [line.split(" ", 1) for line in path.read_text().splitlines()] if path.is_file() else []
    assert {int(priority) for priority, _ in noted} <= {min(19, os.nice(0) + 19)}
    return [asked for _, asked in noted]


@pytest.fixture(autouse=True)
def server(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def test_it_follows_the_study_at_work_and_shows_its_end() -> None:
    ended = Event()
    thread = Thread(target=show_meanwhile, args=(ended, COMMAND))
    with held(SNAKEMAKE, {"params": "p.yaml"}):
        thread.start()
        wait_until(lambda: calls() == ASKED[:1])
        ended.set()
        thread.join()
    wait_until(lambda: calls() == ASKED)


def test_it_ends_with_a_run_that_was_killed() -> None:
    code = f"from threading import Event; from {show_meanwhile.__module__} import show_meanwhile as show; "
    code += f"show(Event(), {COMMAND!r})"
    with held(SNAKEMAKE, {"params": "p.yaml"}):
        run = subprocess.Popen([sys.executable, "-c", code])
        wait_until(lambda: calls() == ASKED[:1])
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    wait_until(lambda: calls() == ASKED)


def test_without_a_server_or_a_study_at_work_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Event()
    ended.set()
    show_meanwhile(ended, COMMAND)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with held(SNAKEMAKE, {"params": "p.yaml"}):
        show_meanwhile(ended, COMMAND)
    assert calls() == []
