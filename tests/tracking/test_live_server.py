"""A training at work is seen in a real MLflow server before it has finished, and so is its end.

Server, training and the publisher that a run starts are processes of their own, because that is what is promised.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from urllib.request import urlopen

import pytest
from tracking_store import client_of, plan_small, runs_of

from internal_kd.held import held
from internal_kd.plan.runs import Run
from internal_kd.running.project import SNAKEMAKE
from internal_kd.running.showing import LOG, show_meanwhile
from internal_kd.tracking.store import tracking_uri
from tiny_study import wait_until
from trained_study import Trained, run_of

pytestmark = pytest.mark.slow

NAME = "2.0 Fine-tuned without a teacher, seed 1"
MODULE = [sys.executable, "-m"]


@pytest.fixture
def server(store: Trained, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an MLflow server on the store's database."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*MODULE, *f"mlflow server --workers 1 --port {port} --backend-store-uri {tracking_uri()}".split()]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or answers(f"{address}/health"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address
        os.killpg(process.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    try:
        with urlopen(address) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.fixture
def training(store: Trained) -> Iterator[tuple[subprocess.Popen[bytes], Run]]:
    """A training that has reported two epochs of many, and stands still: it is at work, and has not finished."""
    methods = {"finetuned": {"seeds": [1], "epochs": 2000}}
    study = plan_small(study={"methods": ["teacher", "finetuned"]}, methods=methods)
    Path("params.yaml").write_text(study.as_yaml())
    run = run_of(study, "judge", "finetuned")
    with subprocess.Popen([*MODULE, "internal_kd.command_line", "make", run.fingerprint]) as process:
        wait_until(lambda: process.poll() is not None or len(epochs(run)) >= 2)
        assert process.poll() is None
        process.send_signal(signal.SIGSTOP)
        yield process, run
        process.kill()


def epochs(run: Run) -> list[dict[str, float]]:
    """What a training at work has reported."""
    path = Path("work/progress") / f"{run.fingerprint}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def without_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``nice`` only start what it is given: beside other tests the lowest priority would take minutes."""
    script = Path("bin/nice")
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent.resolve()}{os.pathsep}{os.environ['PATH']}")


def told() -> str:
    """What the publisher has reported."""
    return LOG.read_text() if LOG.is_file() else ""


def test_epochs_losses_and_dev_scores_are_there_before_the_training_has_finished(
    server: str, training: tuple[subprocess.Popen[bytes], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (process, run), ended = training, Event()
    without_priorities(monkeypatch)
    thread = Thread(target=show_meanwhile, args=(ended,), daemon=True)
    with held(SNAKEMAKE, {"params": "params.yaml"}):
        thread.start()
        wait_until(lambda: "shown as far as they are: 1 training" in told())
        assert process.poll() is None and not run.folder.exists()
        live, client = runs_of(uri=server)[NAME], client_of(server)
        assert (live.info.status, live.data.tags["fingerprint"]) == ("RUNNING", run.fingerprint)
        assert live.data.params["epochs"] == "2000"
        for metric, key in {"train/loss": "loss", "dev/accuracy": "dev_accuracy"}.items():
            points = client.get_metric_history(live.info.run_id, metric)
            found = {point.step: point.value for point in points}
            assert found == pytest.approx({line["epoch"]: line[key] for line in epochs(run)}, abs=1e-4)
            assert len(found) >= 2
        process.kill()
        process.wait()
        ended.set()
        thread.join()
    wait_until(lambda: client.get_run(live.info.run_id).info.status == "KILLED")
