import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from internal_kd.artefacts import Run
from internal_kd.files import write_json
from internal_kd.operations.progress import PROGRESS, describe, duration, look, running_runs, summary
from internal_kd.processes import start_of
from internal_kd.steps.finishing import Stopwatch
from internal_kd.study import Study
from tiny_study import complete


def report(
    run: Run,
    *,
    pid: int,
    process: str | None = None,
    host: str | None = None,
    step: int = 25,
    resumed_at: int = 0,
    seconds: float = 0.5,
    age: timedelta = timedelta(0),
) -> None:
    """Write what a training of 100 steps writes ``seconds`` after it was started."""
    updated = datetime.now(UTC) - age
    write_json(
        PROGRESS / f"{run.fingerprint}.json",
        {
            "fingerprint": run.fingerprint,
            "label": run.label,
            "epoch": 1,
            "epochs": 3,
            "step": step,
            "steps": 100,
            "resumed_at": resumed_at,
            "started": (updated - timedelta(seconds=seconds)).isoformat(),
            "updated": updated.isoformat(),
            "pid": pid,
            "process": process or start_of(pid),
            "host": host or socket.gethostname(),
        },
    )


def test_runs_are_counted_by_what_became_of_them(study: Study) -> None:
    complete(*study.teachers, *study.students[:3])
    (study.students[2].folder / "history.jsonl").write_text("cut")
    report(study.students[3], pid=os.getpid())
    state = look(study)
    assert (len(state.done), len(state.broken), len(state.running), len(state.left)) == (4, 1, 1, 2)
    shown = "\n".join(describe(state))
    assert "teachers 2 of 2 done, students 2 of 6 done" in shown
    assert f"{study.students[2].folder}: history.jsonl has 3 bytes" in shown
    assert f"running: {study.students[3].label}: epoch 1 of 3, 25 %" in shown


def test_a_training_that_died_is_not_running(study: Study) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    report(study.students[0], pid=ended.pid)
    assert running_runs() == {}
    assert len(look(study).left) == 8


def test_a_later_process_with_the_same_number_is_not_the_training(study: Study, worker: subprocess.Popen) -> None:
    report(study.students[0], pid=worker.pid, process="before it")
    assert running_runs() == {}


def test_a_training_runs_on_when_the_clock_is_set(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(study.students[0])
    watch.report({"epoch": 1, "epochs": 3, "step": 25, "steps": 100})
    # The start of every process, as psutil tells it, moves with the clock.
    shifted = psutil._psplatform.boot_time() + 7200
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: shifted)
    assert list(running_runs()) == [study.students[0].fingerprint]
    watch.finish()
    assert running_runs() == {}


def test_a_training_elsewhere_counts_while_it_is_heard_of(study: Study) -> None:
    report(study.students[0], pid=1, host="elsewhere", age=timedelta(minutes=1))
    report(study.students[1], pid=1, host="elsewhere", age=timedelta(hours=1))
    assert list(running_runs()) == [study.students[0].fingerprint]


def test_a_progress_file_cut_short_is_passed_over(study: Study) -> None:
    PROGRESS.mkdir(parents=True)
    (PROGRESS / "aaaaaaaaaaaa.json").write_text('{"fingerprint": "aaaa')
    assert running_runs() == {}


def test_time_left_comes_from_finished_runs_and_the_share_done(study: Study) -> None:
    students = study.students
    assert look(study).time_left() is None
    complete(*study.teachers, *(run.outputs for run in students if run.outputs), seconds=1000)
    # The first finished run is enough: what is unlike it is judged by its work.
    seconds = look(study).time_left()
    assert seconds == pytest.approx(sum(look(study).forecast().seconds(run) for run in students))
    # Of every method a run has finished: the second seeds will take as long.
    complete(*(run for run in students if run.seed == 1), seconds=2)
    assert look(study).time_left() == pytest.approx(3 * 2)
    second = [run for run in students if run.seed == 2]
    report(second[0], pid=os.getpid(), step=50)
    assert look(study).time_left() == pytest.approx(2 * 2 + 0.5)
    report(second[1], pid=os.getpid(), step=25)
    assert look(study).time_left() == pytest.approx((2 + 0.5 + 1.5) / 2)


def test_a_resumed_training_is_judged_by_the_steps_since(study: Study) -> None:
    run = study.students[0]
    report(run, pid=os.getpid(), resumed_at=90, step=95, seconds=10)
    (resumed,) = running_runs().values()
    assert resumed.left == pytest.approx(10) and str(resumed).endswith("95 %, 10 s left")
    # Before its first step it is as far as its checkpoint; how quick it is, others of its kind say.
    complete(*study.teachers, *(other for other in study.students if other is not run), seconds=200)
    report(run, pid=os.getpid(), resumed_at=90, step=90)
    assert look(study).time_left() == pytest.approx(200 * 0.1)


def test_a_process_that_does_not_say_where_it_began_began_at_the_start(study: Study) -> None:
    report(study.students[0], pid=os.getpid(), step=25, seconds=10)
    path = PROGRESS / f"{study.students[0].fingerprint}.json"
    said = json.loads(path.read_text())
    del said["resumed_at"]
    write_json(path, said)
    assert running_runs()[study.students[0].fingerprint].left == pytest.approx(30)


def test_a_training_that_is_only_writing_its_results_is_not_counted_again(study: Study) -> None:
    complete(*study.teachers, *study.students[1:], seconds=1000)
    report(study.students[0], pid=os.getpid(), step=100)
    assert look(study).time_left() == 0


def test_time_left_counts_the_teacher_that_is_still_to_be_recorded(study: Study) -> None:
    complete(*study.teachers, seconds=1000)
    before = look(study).time_left()
    complete(*(run.outputs for run in study.students if run.outputs))
    after = look(study).time_left()
    assert before and after and before > after


def test_what_was_done_before_is_not_read_again(study: Study) -> None:
    complete(*study.runs)
    before = look(study)
    study.students[0].marker.unlink()
    assert look(study, before=before).finished
    assert not look(study).finished


def test_the_summary_is_one_line(study: Study) -> None:
    assert summary(look(study)).startswith("0 done, 0 running, 8 left; time left: known once")
    complete(*study.runs)
    assert summary(look(study)) == "all 8 runs done"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (6000, "1 h 40 min"), (190_000, "2 d 4 h")],
)
def test_durations_are_said_as_people_do(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
