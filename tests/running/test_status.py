"""A study's state, from files alone: what is done, running, broken and left, and for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from completed import complete_everything
from internal_kd.files import read_json, write_json, write_text
from internal_kd.held import held
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study
from internal_kd.running import status as states
from internal_kd.running.make import lock_of
from internal_kd.running.status import (
    as_json,
    describe,
    is_running,
    look,
    progress_file,
    running_run,
    state_of,
    summary,
)
from tiny_study import complete, run_of


@contextmanager
def training(run: Run, *, step: int = 25, resumed_at: int = 0, seconds: float = 10) -> Iterator[None]:
    """Be at work on a training of 100 steps and report one ``seconds`` after the start."""
    with held(lock_of(run), {"what": run.label}) as lock:
        report(run, step=step, resumed_at=resumed_at, at=states.began_at(run) + timedelta(seconds=seconds))
        assert lock.locked
        yield


def report(run: Run, *, step: int, at: datetime, resumed_at: int = 0) -> None:
    place = {"epoch": 1, "epochs": 3, "step": step, "steps": 100, "resumed_at": resumed_at}
    write_json(progress_file(run.fingerprint), {**place, "updated": at.isoformat()})


def test_runs_are_counted_by_what_has_become_of_them(study: Study) -> None:
    done, broken, running = study.runs[:3], study.runs[3], study.runs[4]
    complete(*done, broken)
    (broken.folder / "history.jsonl").write_text("cut")
    with training(running):
        state = look(study)
        shown = "\n".join(describe(state))
        assert [state_of(run) for run in (done[0], broken, running, study.runs[5])] == [
            "complete", "broken", "running", "missing",
        ]  # fmt: skip
    assert (len(state.done), len(state.broken), len(state.running), len(state.left)) == (3, 1, 1, 3)
    assert "teacher 2 of 2" in shown and str(broken.folder) in shown and "history.jsonl" in shown
    assert f"running: {running.label}: epoch 1 of 3" in shown


def test_a_training_that_was_killed_is_not_running_although_its_files_are_there(study: Study) -> None:
    run = study.runs[0]
    with training(run):
        note = lock_of(run).read_text()
    lock_of(run).write_text(note)  # the kernel frees the lock and leaves the file
    assert not is_running(run) and running_run(run) is None and len(look(study).left) == 8


def test_a_training_elsewhere_counts_while_it_is_heard_of(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    run = study.runs[0]
    report(run, step=25, at=datetime.now())
    monkeypatch.setattr(states, "untested", lambda path: {"host": "elsewhere"})
    assert is_running(run)
    monkeypatch.setattr(states, "SILENCE", -1.0)
    assert not is_running(run)


def test_a_running_training_shows_epoch_loss_score_and_time_left(study: Study) -> None:
    run = study.runs[0]
    lines = [{"epoch": 1, "loss": 0.9, "dev_accuracy": 0.5}, {"epoch": 2, "loss": 0.4121, "dev_accuracy": 0.8125}]
    write_text(progress_file(run.fingerprint).with_suffix(".jsonl"), "".join(f"{json.dumps(line)}\n" for line in lines))
    with training(run, step=50, seconds=60):
        shown = str(running_run(run))
    assert shown == f"{run.label}: epoch 1 of 3, loss 0.412, dev accuracy 0.812, 1 min left"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"steps": 0}', '{"epoch": 1, "steps": "many"}'])
def test_a_progress_file_that_cannot_be_read_is_a_training_that_starts(study: Study, content: str) -> None:
    run = study.runs[0]
    for path in (progress_file(run.fingerprint), progress_file(run.fingerprint).with_suffix(".jsonl")):
        write_text(path, content)
    with held(lock_of(run)):
        found = running_run(run)
        assert found and found.left is None and str(found) == f"{run.label}: starting"


def test_what_an_earlier_process_reported_is_not_this_ones_progress(study: Study) -> None:
    run = study.runs[0]
    with training(run, seconds=-60):
        found = running_run(run)
        assert found and found.share == 0 and found.left is None


def test_a_resumed_training_is_judged_by_the_steps_since(study: Study) -> None:
    run = study.runs[0]
    with training(run, resumed_at=90, step=95, seconds=10):
        found = running_run(run)
        assert found and found.left == pytest.approx(10)
    # Before its first step it is as far as its checkpoint; how fast it is, others like it show.
    complete(*study.runs[1:], seconds=200)
    with training(run, resumed_at=90, step=90):
        assert look(study).time_left() == pytest.approx(200 * 0.1)


def test_time_left_comes_from_finished_runs_and_what_is_done_of_others(study: Study) -> None:
    assert look(study).time_left() is None
    complete(*(run for run in study.runs if run.seed == 1), seconds=20)
    # Of every method a run has finished: the second seeds take as long.
    assert look(study).time_left() == pytest.approx(4 * 20)
    with training(run_of(study, "soft", 2), step=50, seconds=8):
        assert look(study).time_left() == pytest.approx(3 * 20 + 8)
        with training(run_of(study, "stacked", 2), step=25, seconds=1):
            assert look(study).time_left() == pytest.approx((2 * 20 + 8 + 3) / 2), "two at a time"
    with training(run_of(study, "soft", 2), step=1, seconds=60):
        assert look(study).time_left() == pytest.approx(3 * 20 + 0.99 * 20), "first steps are slow"


def test_what_was_done_before_is_not_read_again(study: Study) -> None:
    complete(*study.runs)
    before = look(study)
    study.runs[0].marker.unlink()
    assert look(study, before=before).finished and not look(study).finished


def test_the_summary_is_one_line(study: Study) -> None:
    assert summary(look(study)).startswith("0 of 8 runs done; time left: known once")
    with training(study.runs[0], step=50):
        state = look(study)
        assert summary(state) == f"0 of 8 runs done, 1 running; {state.running[0]}"
        assert state.bar == "[#-------------------] 6 %"
    complete(study.runs[0])
    assert "1 of 8 runs done; about" in summary(look(study)) and "one run at a time" in summary(look(study))
    complete(*study.runs)
    assert summary(look(study)) == "all 8 runs done"


def test_what_a_study_writes_is_shown_before_it_starts_and_nothing_at_its_end(study: Study) -> None:
    assert any("models" in line and "recorded answers" in line for line in describe(look(study)))
    complete_everything(study)
    assert len(describe(look(study))) == 2


def test_json_has_the_same(study: Study) -> None:
    complete(*study.runs[:3])
    with training(study.runs[4]):
        values = json.loads(json.dumps(as_json(look(study))))
    assert (values["study"], values["runs"], values["done"], values["left"]) == ("tiny", 8, 3, 4)
    assert values["running"][0]["fingerprint"] == study.runs[4].fingerprint and values["seconds_left"] > 0


def test_a_record_without_times_is_still_a_run(study: Study) -> None:
    complete(study.runs[0])
    write_json(study.runs[0].marker, read_json(study.runs[0].marker) | {"seconds": None})
    assert look(study).time_left() is None


def test_what_is_made_for_the_runs_is_shown_while_it_is_made(study: Study) -> None:
    (answers,) = run_of(study, "soft").parts
    with held(lock_of(answers)):
        assert f"  making: {answers.label}" in describe(look(study))
    assert not any("making" in line for line in describe(look(study)))
