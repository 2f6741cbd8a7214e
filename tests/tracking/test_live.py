"""A training at work is shown from its progress, and completed in place; it never waits for MLflow."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tracking_store import client_of, plan_small, runs_of

from internal_kd.held import held
from internal_kd.plan.runs import Run
from internal_kd.running.make import lock_of
from internal_kd.steps.run_folder import JobRecord
from internal_kd.tracking import publishing
from internal_kd.tracking.names import LIVE, LOSS
from internal_kd.tracking.publishing import publish_runs
from trained_study import Trained

pytestmark = pytest.mark.slow

NAME = "3.5 Stacked (SID), seed 1"


class Training:
    """A training that reports its epochs, as ``train_run`` does, under its lock."""

    def __init__(self, run: Run, aside: Path) -> None:
        self.run, self.aside, self.job = run, aside, JobRecord(run)
        self.history = [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]
        run.folder.rename(aside)
        self._lock = ExitStack()

    def work(self, epochs: int) -> None:
        """Take the lock and report so many epochs."""
        self._lock.enter_context(held(lock_of(self.run)))
        self.job.report({"step": epochs, "steps": 4, "epoch": epochs, "epochs": 4, "resumed_at": 0})
        self.job.epoch(self.history[:epochs])

    def end(self, *, finished: bool) -> None:
        """Let go of the lock; a training that has finished leaves its folder and no progress."""
        if finished:
            self.aside.rename(self.run.folder)
            self.job.finish()
        self._lock.close()


@pytest.fixture
def training(store: Trained) -> Iterator[Training]:
    """A training of the store's study that has not started yet."""
    training = Training(store.run("judge", "stacked"), store.folder / "aside")
    yield training
    training.end(finished=False)


def losses(name: str = NAME) -> dict[int, float]:
    """The loss of every epoch that is shown, none twice."""
    points = client_of().get_metric_history(runs_of()[name].info.run_id, LOSS)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


def test_a_training_at_work_is_shown_and_completed_in_place(training: Training) -> None:
    training.work(2)
    done = publish_runs(plan_small())
    shown = runs_of()[NAME]
    assert (done.live, done.missing) == (1, 0) and "shown as far as they are: 1 training" in done.lines()[1]
    assert shown.info.status == "RUNNING" and LIVE in shown.data.tags and shown.data.params["curriculum"] == "stacked"
    assert losses() == {line["epoch"]: line["loss"] for line in training.history[:2]}
    training.job.epoch(training.history[:3])
    publish_runs(plan_small())
    assert set(losses()) == {1, 2, 3} and runs_of()[NAME].info.run_id == shown.info.run_id
    training.end(finished=True)
    publish_runs(plan_small())
    finished = runs_of()[NAME]
    assert finished.info.run_id == shown.info.run_id, "those who look at it keep the address"
    assert finished.info.status == "FINISHED" and LIVE not in finished.data.tags
    assert "accuracy" in finished.data.metrics and set(losses()) == {1, 2, 3, 4}
    assert finished.data.tags["mlflow.parentRunId"] == runs_of()["3.5 Stacked (SID)"].info.run_id


def test_a_killed_training_is_seen_as_such_and_goes_on_where_it_was(training: Training) -> None:
    training.work(2)
    training.end(finished=False)
    publish_runs(plan_small())
    killed = runs_of()[NAME]
    assert killed.info.status == "KILLED" and set(losses()) == {1, 2}
    training.work(3)
    publish_runs(plan_small())
    resumed = runs_of()[NAME]
    assert resumed.info.run_id == killed.info.run_id and resumed.info.status == "RUNNING" and set(losses()) == {1, 2, 3}


def test_an_attempt_with_other_numbers_is_replaced(training: Training) -> None:
    training.work(2)
    training.job.epoch([{**line, "loss": 7.0} for line in training.history[:2]])
    publish_runs(plan_small())
    before = runs_of()[NAME].info.run_id
    training.end(finished=True)
    publish_runs(plan_small())
    assert runs_of()[NAME].info.run_id != before and losses() == {
        line["epoch"]: line["loss"] for line in training.history
    }


def test_a_half_written_line_ends_the_curve(training: Training) -> None:
    training.work(2)
    progress = Path("work/progress") / f"{training.run.fingerprint}.jsonl"
    progress.write_text(progress.read_text() + '{"epoch": 3, "lo')
    publish_runs(plan_small())
    assert set(losses()) == {1, 2}


def test_following_survives_a_server_that_is_down_and_ends_with_the_study(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = publishing.tracking_uri()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    training.work(1)
    lines: list[str] = []
    steps = iter(
        [
            lambda: monkeypatch.setenv("MLFLOW_TRACKING_URI", good),
            lambda: training.job.epoch(training.history[:3]),
            lambda: training.end(finished=True),
        ]
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    monkeypatch.setattr("internal_kd.tracking.publishing.time.sleep", lambda seconds: next(steps)())
    done = publish_runs(plan_small(), follow=True, say=lines.append)
    assert "does not take the results" in lines[0] and "1 training" in lines[1]
    assert (done.live, done.missing) == (0, 0) and set(losses()) == {1, 2, 3, 4}
    assert len(lines) == 3, "a line is printed once"


def test_what_was_never_started_is_counted(store: Trained) -> None:
    shutil.rmtree(store.run("judge", "stacked").folder)
    done = publish_runs(plan_small())
    assert (done.live, done.missing) == (0, 1) and NAME not in runs_of()
