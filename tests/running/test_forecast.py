"""What runs take and write: work counted as it is done, seconds only from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from internal_kd.files import write_json
from internal_kd.plan.study import Study
from internal_kd.running import forecast as forecasting
from internal_kd.running.forecast import Forecast, Measured, needed_disk, needed_downloads, read_measured, readable
from internal_kd.running.make import to_make
from tiny_study import CONFIG, complete, make_project, plan_here, planned, run_of, write_overlay

LENGTH, TRAIN = 12.0, 64  # half of 24 tokens as long as nothing is encoded


def measured(seconds: float, *, device: str = "cpu", finished: str = "2026") -> Measured:
    return Measured(seconds, device, finished)


def needed(study: Study) -> list[Any]:
    return [artefact for artefact, _ in to_make(study.runs).values()]


def test_work_is_epochs_examples_tokens_and_layers(study: Study) -> None:
    work = {name: Forecast(study, {}).work(run_of(study, name)) for name in ("teacher", "finetuned", "stacked")}
    per_layer = LENGTH * TRAIN
    assert work["teacher"] == per_layer * (3 * 4 + 4)
    assert work["finetuned"] == per_layer * (3 * 3 * 2 + 2)
    # One epoch at layer 1, one at layers 1-2, one of classification.
    assert work["stacked"] == per_layer * (3 * (1 + 2 + 2) + 2)


@pytest.mark.parametrize(("keep", "examples"), [(16, 16), (0.25, 16), ("full", 64), (64, 64)])
def test_fewer_examples_are_less_work(project: Path, keep: object, examples: int) -> None:
    make_project(project, methods={"soft": {"select": {"keep": keep}}})
    study = plan_here()
    assert Forecast(study, {}).work(run_of(study, "soft")) == LENGTH * examples * (3 * 3 * 2 + 2)


def test_phases_are_as_long_as_they_say(project: Path) -> None:
    phases = [{"epochs": 5, "terms": ["cls_cosine"]}, {"epochs": 1, "terms": ["soft"]}]
    make_project(
        project, methods={"stacked": {"weights": {"soft": 1, "cls_cosine": 1}, "curriculum": {"phases": phases}}}
    )
    study = plan_here()
    assert Forecast(study, {}).work(run_of(study, "stacked")) == LENGTH * TRAIN * (3 * 6 * 2 + 2)


def test_lengths_are_counted_once_they_are_known(study: Study) -> None:
    inputs = study.tasks["judge"]
    write_json(inputs.marker, {"splits": {"train": {"rows": 50, "tokens": 500}}})
    assert Forecast(study, {}).work(run_of(study, "teacher")) == 10 * 50 * (3 * 4 + 4)


def test_without_a_finished_run_there_are_no_seconds(study: Study) -> None:
    assert all(Forecast(study, {}).seconds(run) is None for run in study.runs)


def test_the_same_run_takes_as_long_again_and_others_by_their_work(study: Study) -> None:
    forecast = Forecast(study, {run_of(study, "soft").fingerprint: measured(100)})
    assert forecast.seconds(run_of(study, "soft", 2)) == pytest.approx(100)
    stacked, soft = (forecast.work(run_of(study, name)) for name in ("stacked", "soft"))
    assert stacked and soft and forecast.seconds(run_of(study, "stacked")) == pytest.approx(100 * stacked / soft)


def test_the_run_most_alike_is_believed(study: Study) -> None:
    known = {run_of(study, "soft").fingerprint: measured(100), run_of(study, "teacher").fingerprint: measured(9)}
    forecast = Forecast(study, known)
    assert forecast.seconds(run_of(study, "teacher", 2)) == pytest.approx(9)
    assert forecast.seconds(run_of(study, "finetuned")) == pytest.approx(100), "same depth, same kind"


def test_another_machines_seconds_do_not_count(study: Study) -> None:
    slow = {run_of(study, "soft").fingerprint: measured(9000, device="old", finished="2025")}
    fast = {run_of(study, "soft", 2).fingerprint: measured(10, device="new", finished="2026")}
    assert Forecast(study, slow | fast).seconds(run_of(study, "finetuned")) == pytest.approx(10)


def test_a_task_of_unknown_size_has_no_forecast() -> None:
    study = planned()
    assert Forecast(study, {study.runs[0].fingerprint: measured(1)}).seconds(study.runs[1]) is None


@pytest.mark.parametrize("record", [{}, {"seconds": None}, {"seconds": 0}, {"seconds": "3"}])
def test_a_record_without_seconds_measures_nothing(record: dict[str, Any]) -> None:
    assert read_measured(record) is None


def test_the_papers_downloads_are_named_and_nothing_else_is() -> None:
    line = needed_downloads(needed(planned()))
    assert line and "google-bert/bert-base-uncased" in line and "nyu-mll/glue (cola, mrpc, qqp, rte)" in line
    assert needed_downloads([]) is None


def test_a_study_of_local_files_downloads_nothing(study: Study) -> None:
    assert needed_downloads(needed(study)) is None


def test_models_take_what_their_weights_take(project: Path) -> None:
    make_project(project)
    write_json(project / "encoder/config.json", {**CONFIG, "vocab_size": 100, "intermediate_size": 64})
    rows, layer, pooler = (100 + 32 + 4) * 32, 4 * 32 * 33 + 2 * 32 * 64 + 64 + 5 * 32, 32 * 33
    teacher, student = (4 * (rows + depth * layer + pooler) for depth in (4, 2))
    line = needed_disk(plan_here(), needed(plan_here()))
    assert line and f"{readable(2 * teacher + 6 * student)} of models" in line
    write_overlay(project, machine={"keep_models": "first-seed"})
    line = needed_disk(plan_here(), needed(plan_here()))
    assert line and f"{readable(2 * teacher + 3 * student)} of models" in line


def test_recordings_take_their_layers_and_at_most_their_budget(study: Study) -> None:
    # 64 examples of about 12 tokens: 2 logits; of each of 4 layers 4 heads of attention and a [CLS] state of 32.
    most = 2 * TRAIN * (2 + 4 * 4 * LENGTH**2 * forecasting.SPREAD + 4 * 32)
    assert f"up to {readable(most)} of recorded answers" in str(needed_disk(study, needed(study)))
    write_overlay(Path(), defaults={"select": {"keep": 16}})
    chosen = most * 16 / TRAIN
    assert f"up to {readable(chosen)} of recorded answers" in str(needed_disk(plan_here(), needed(plan_here())))
    write_overlay(Path(), machine={"disk_budget_gb": 1e-6})
    assert "up to 1.0 kB of recorded answers" in str(needed_disk(plan_here(), needed(plan_here())))


def test_recordings_of_a_task_that_nobody_has_seen_may_take_their_budget() -> None:
    assert "up to 200.0 GB of recorded answers" in str(needed_disk(planned(), needed(planned())))


def test_a_disk_too_small_is_mentioned_beforehand(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(project)
    write_json(project / "encoder/config.json", {**CONFIG, "vocab_size": 100})
    usage = forecasting.shutil.disk_usage(project)._replace(free=1000)
    monkeypatch.setattr(forecasting.shutil, "disk_usage", lambda path: usage)
    assert "WARNING" in str(needed_disk(plan_here(), needed(plan_here())))


def test_what_is_there_takes_no_more_disk(study: Study) -> None:
    complete(*study.artefacts.values())
    assert needed_disk(study, needed(study)) is None


@pytest.mark.parametrize(("size", "shown"), [(12, "12 B"), (1500, "1.5 kB"), (2_500_000_000, "2.5 GB")])
def test_sizes_are_as_people_say_them(size: int, shown: str) -> None:
    assert readable(size) == shown
