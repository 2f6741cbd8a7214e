"""Live tracking: a training tells its epochs, and nothing a server does or fails to do changes the training."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny_study
import tracking_store
from internal_kd.artefacts import Run
from internal_kd.errors import Interrupted
from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.making import make
from internal_kd.operations.tracking import live
from internal_kd.operations.tracking.live import GRACE_SECONDS, live_tracking
from internal_kd.operations.tracking.names import LIVE
from internal_kd.operations.tracking.publishing import publish_runs
from internal_kd.steps.initialize_student import initialize_student
from internal_kd.study import Study
from tracking_store import client_of, fake_runs, ids, runs_of, small_study

pytestmark = pytest.mark.slow

LABEL = "entailment | L3 | soft | s1"
# Long enough for a busy machine to import MLflow; a test that everything arrives has to wait for it.
PATIENT = 240.0


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = tracking_store.empty_store(tmp_path, tmp_path_factory.getbasetemp())
    tracking_store.isolate(monkeypatch, uri)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "GRACE_SECONDS", PATIENT)


def train(run: Run, upto: int | None = None) -> tuple[float, float]:
    """Tell a run's recorded history epoch by epoch; return the longest call and the wait at the end, in seconds."""
    history = [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()][:upto]
    slowest = 0.0
    with live_tracking(run, "small") as on_epoch:
        assert on_epoch is not None
        for epoch in range(1, len(history) + 1):
            started = time.monotonic()
            on_epoch(history[:epoch])
            slowest = max(slowest, time.monotonic() - started)
        ended = time.monotonic()
    return slowest, time.monotonic() - ended


def run_of(study: Study, label: str = LABEL) -> Run:
    return next(run for run in study.runs if run.label == label)


def is_whole(study: Study) -> bool:
    """Whether every run is there once, with every epoch once."""
    client, shown = client_of(), runs_of()
    for run in study.runs:
        losses = client.get_metric_history(shown[run.label].info.run_id, "train/loss")
        wanted = [line["epoch"] for line in fake_runs.make_history(run)]
        if sorted(point.step for point in losses) != wanted or LIVE in shown[run.label].data.tags:
            return False
    return True


def test_without_an_address_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with live_tracking(run_of(fake_runs.plan(**tracking_store.SMALL)), "small") as on_epoch:
        assert on_epoch is None


def test_epochs_arrive_and_publishing_completes_the_very_run(patient: None, capfd: pytest.CaptureFixture[str]) -> None:
    study = small_study()
    train(run_of(study))
    assert capfd.readouterr().out == ""
    shown = runs_of()[LABEL]
    assert shown.info.status == "FINISHED" and LIVE in shown.data.tags
    assert shown.data.metrics["train/loss"] == fake_runs.make_history(run_of(study))[-1]["loss"]
    publish_runs(study)
    assert runs_of()[LABEL].info.run_id == shown.info.run_id, "whoever is looking at it keeps the address"
    assert "accuracy" in runs_of()[LABEL].data.metrics and is_whole(study)


def test_what_a_live_run_lacks_is_added(patient: None) -> None:
    study = small_study()
    train(run_of(study), upto=2)
    before = runs_of()[LABEL].info.run_id
    publish_runs(study)
    assert ids(runs_of())[LABEL] == before and is_whole(study)


def test_an_attempt_with_other_numbers_is_replaced(patient: None) -> None:
    study = small_study()
    run = run_of(study)
    whole = (run.folder / "history.jsonl").read_text()
    (run.folder / "history.jsonl").write_text(whole.replace('"loss": 1.5', '"loss": 1.25'))
    train(run, upto=3)
    before = runs_of()[LABEL].info.run_id
    (run.folder / "history.jsonl").write_text(whole)
    publish_runs(study)
    assert ids(runs_of())[LABEL] != before and is_whole(study)


def test_a_second_attempt_takes_the_place_of_a_killed_one(patient: None) -> None:
    run = run_of(small_study())
    train(run, upto=1)
    train(run)
    assert runs_of()[LABEL].data.metrics["train/loss"] == fake_runs.make_history(run)[-1]["loss"]


def test_a_training_that_a_signal_asked_to_stop_is_seen_as_killed(patient: None) -> None:
    run = run_of(small_study())
    with pytest.raises(Interrupted), live_tracking(run, "small") as on_epoch:
        assert on_epoch is not None
        on_epoch(fake_runs.make_history(run)[:1])
        raise Interrupted("stopped by SIGTERM at step 1")
    assert runs_of()[LABEL].info.status == "KILLED"


def test_a_failed_and_a_killed_training_are_seen_as_such(patient: None) -> None:
    study = small_study()
    with pytest.raises(ZeroDivisionError), live_tracking(run_of(study), "small") as on_epoch:
        assert on_epoch is not None
        on_epoch(fake_runs.make_history(run_of(study))[:1])
        raise ZeroDivisionError
    assert runs_of()[LABEL].info.status == "FAILED"
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); import tracking_store as t\n"
        "from internal_kd.operations.tracking.live import live_tracking\n"
        "run = next(r for r in t.small_study().runs if r.label == sys.argv[2])\n"
        "with live_tracking(run, 'small') as on_epoch:\n"
        "    on_epoch(t.fake_runs.make_history(run)[:1])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    other = "entailment | L3 | soft | s2"
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parents[1]), other])
    assert done.returncode == -signal.SIGKILL
    assert within(PATIENT, lambda: other in runs_of() and runs_of()[other].info.status == "KILLED")


def within(seconds: float, holds: Any) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.5)
    return False


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def no_server() -> Iterator[str]:
    """An address at which nobody is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("server", [silent_server, no_server])
def test_a_server_that_does_not_answer_costs_a_training_nothing(
    server: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study = small_study()
    good = os.environ["MLFLOW_TRACKING_URI"]
    with server() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        slowest, wait = train(run_of(study))
    assert slowest < 0.5 and wait < GRACE_SECONDS + 5
    said = capfd.readouterr()
    assert said.err == "" and len(said.out.splitlines()) == 1
    assert "6 of 6 epochs did not arrive" in said.out and "publish-runs" in said.out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", good)
    publish_runs(study)
    assert is_whole(study)


@contextlib.contextmanager
def real_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``mlflow server`` on this machine alone, with a store of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            uri = f"http://127.0.0.1:{port}"
            assert within(PATIENT, lambda: answers(f"{uri}/health")), (folder / "log").read_text()
            yield uri, process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
        return answer.status == 200
    return False


def test_a_server_that_dies_midway_loses_nothing(
    tmp_path: Path, patient: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study = small_study()
    history = fake_runs.make_history(run_of(study))
    good = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # a busy machine's server is slow, not away
    with real_server(tmp_path / "server") as (uri, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with live_tracking(run_of(study), "small") as on_epoch:
            assert on_epoch is not None
            on_epoch(history[:2])
            assert within(PATIENT, lambda: LABEL in runs_of() and "train/loss" in runs_of()[LABEL].data.metrics)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            started = time.monotonic()
            on_epoch(history)
            assert time.monotonic() - started < 0.5
    assert "4 of 6 epochs did not arrive" in capfd.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", good)
    publish_runs(study)
    assert is_whole(study)


def test_a_training_ends_with_the_same_result_whether_or_not_anybody_listens(
    tmp_path: Path, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    tiny_study.make_project(folder)
    tiny_study.make_encoder(folder / "encoder")
    study = tiny_study.plan_here()
    catalogue = Catalogue(study)
    run = next(run for run in study.students if run.method.name == "finetuned")
    for artefact in (run.encoder, run.tokens.data, run.tokens):
        make(artefact, catalogue)
    initialize_student(run.initial)
    results = []
    with no_server() as nobody:
        for uri in (os.environ["MLFLOW_TRACKING_URI"], nobody, None):
            if uri is None:
                monkeypatch.delenv("MLFLOW_TRACKING_URI")
            else:
                monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            make(run, catalogue)
            results.append((run.folder / "model" / "model.safetensors").read_bytes())
            shutil.rmtree(run.folder)
    assert results[0] == results[1] == results[2]
    shown = runs_of("tiny/judge", f"sqlite:///{tmp_path / 'mlflow.db'}")[run.label]
    history = client_of(f"sqlite:///{tmp_path / 'mlflow.db'}").get_metric_history(shown.info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]
