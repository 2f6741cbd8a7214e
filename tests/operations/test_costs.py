"""What runs cost: work counted as it is done, seconds only from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from internal_kd.files import describe_files, write_json
from internal_kd.operations.costs import Forecast, Measured, climb, read_measured
from internal_kd.operations.sizes import KNOWN_ENCODERS, TaskSize, size_of_task
from internal_kd.params import load_params
from internal_kd.study import Study, plan_study
from tiny_study import ROOT, complete, plan_here, write_overlay

CONFIG = {
    "num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
    "vocab_size": 100, "max_position_embeddings": 32, "type_vocab_size": 2,
}  # fmt: skip
LENGTH, TRAIN, DEV = 12.0, 64, 48  # of the tiny study: half of 24 tokens as long as nothing is tokenised


def measured(seconds: float, *, speed: float | None = None, device: str = "cpu", finished: str = "2026") -> Measured:
    return Measured(seconds, speed, device, finished)


def student(study: Study, method: str, seed: int = 1) -> Any:
    return next(run for run in study.students if (run.method.name, run.seed) == (method, seed))


def test_the_known_encoder_has_the_papers_parameters() -> None:
    (shape,) = KNOWN_ENCODERS.values()
    assert shape.parameters(12) == 109_482_240
    assert 12 * shape.per_layer + 768 * 769 == 85_645_056 and 6 * shape.per_layer + 768 * 769 == 43_117_824


@pytest.mark.parametrize(
    ("curriculum", "classification", "layers", "scored"),
    [
        ("all", "top", [3] * 10, 10),
        ("progressive", "top", [1, 1, 2, 2, 3, 3, 3, 3, 3, 3], 4),
        ("stacked", "always", [3] * 10, 10),
    ],
)
def test_a_stage_costs_the_layers_it_computes(
    curriculum: str, classification: str, layers: list[int], scored: int
) -> None:
    assert climb(curriculum, classification, 2, 10, 3) == (sum(layers), scored)


def test_work_is_epochs_examples_tokens_and_layers(study: Study) -> None:
    forecast = Forecast(study, {})
    token = LENGTH  # without a configuration of the encoder a layer counts 1
    teacher = forecast.work(study.teachers[0])
    assert teacher and teacher.training == 3 * 1 * TRAIN * 4 * token and teacher.scoring == 3 * DEV * 4 * token
    tuned, stacked = (forecast.work(student(study, name)) for name in ("finetuned", "stacked"))
    assert tuned and tuned.training == 3 * 3 * TRAIN * 2 * token and tuned.scoring == (3 + 2) * DEV * 2 * token
    # One epoch at layer 1, one at layers 1-2, one of classification, which alone is scored.
    assert stacked and stacked.training == 3 * TRAIN * (1 + 2 + 2) * token and stacked.scoring == 3 * DEV * 2 * token


def test_without_a_finished_run_there_are_no_seconds(study: Study) -> None:
    forecast = Forecast(study, {})
    assert forecast.device is None and forecast.runs == 0
    assert all(forecast.seconds(run) is None for run in study.runs)


def test_the_same_run_takes_as_long_again(study: Study) -> None:
    one, other = student(study, "soft"), student(study, "soft", seed=2)
    forecast = Forecast(study, {one.fingerprint: measured(100, speed=4.0)})
    assert forecast.seconds(other) == pytest.approx(100)


def test_the_closest_run_is_believed(study: Study) -> None:
    known = {
        student(study, "soft").fingerprint: measured(100),
        student(study, "stacked").fingerprint: measured(7000),
        study.teachers[0].fingerprint: measured(9),
    }
    forecast = Forecast(study, known)
    assert forecast.seconds(student(study, "soft", seed=2)) == pytest.approx(100)
    assert forecast.seconds(study.teachers[1]) == pytest.approx(9)


def test_another_kind_of_run_is_scaled_by_its_work_and_the_time_besides_is_not(study: Study) -> None:
    teacher, tuned = study.teachers[0], student(study, "finetuned")
    whole = Forecast(study, {teacher.fingerprint: measured(10)})
    work = {run.fingerprint: whole.work(run) for run in study.runs}
    ratio = work[tuned.fingerprint].total / work[teacher.fingerprint].total
    assert whole.seconds(tuned) == pytest.approx(10 * ratio)
    # 64 examples at 32 a second: 2 s of training and half a second of scoring the dev set; the rest is no work.
    share = work[teacher.fingerprint].total / work[teacher.fingerprint].training
    affine = Forecast(study, {teacher.fingerprint: measured(10, speed=32)})
    assert affine.seconds(tuned) == pytest.approx(2 * share * ratio + (10 - 2 * share))


def test_seconds_that_contradict_the_speed_are_not_believed(study: Study) -> None:
    run, again = student(study, "soft"), student(study, "soft", seed=2)
    examples = 3 * TRAIN
    # Trained for 10,000 s and resumed for the last 520 of them, which were all that was noted.
    resumed = Forecast(study, {run.fingerprint: measured(520, speed=examples / 10_000)})
    work = resumed.work(run)
    assert work and resumed.seconds(again) == pytest.approx(10_000 * work.total / work.training)
    # A speed that leaves time for a quicker scoring than is counted contradicts nothing.
    whole = 10_000 * (1 + 0.5 * work.scoring / work.training)
    quick = Forecast(study, {run.fingerprint: measured(whole, speed=examples / 10_000)})
    assert quick.seconds(again) == pytest.approx(whole)


def test_more_epochs_and_more_layers_take_longer(project: Path) -> None:
    study = plan_here()
    known = {run.fingerprint: measured(10) for run in study.teachers}
    seconds = Forecast(study, known).seconds(student(study, "soft"))
    write_overlay(project, student={"epochs": 6, "epochs_per_layer": 1})
    longer = plan_here()
    assert seconds and Forecast(longer, known).seconds(student(longer, "soft")) > 1.7 * seconds


def test_another_machines_runs_say_nothing(study: Study) -> None:
    old, new = study.teachers
    known = {
        old.fingerprint: measured(1000, device="cpu, 1 threads", finished="2026-01-01"),
        new.fingerprint: measured(10, device="a GPU", finished="2026-02-01"),
    }
    forecast = Forecast(study, known)
    assert (forecast.device, forecast.runs) == ("a GPU", 1) and forecast.seconds(old) == pytest.approx(10)


def test_recording_is_one_pass_of_the_teacher_without_a_step(study: Study) -> None:
    teacher, outputs = study.teachers[0], study.students[-1].outputs
    forecast = Forecast(study, {teacher.fingerprint: measured(10)})
    work = forecast.work(teacher)
    assert outputs and work
    assert forecast.recording_seconds(outputs) == pytest.approx(10 * (work.training / 3) / work.total)


def test_attention_beyond_the_disk_budget_is_paid_for_in_training(project: Path) -> None:
    write_json(project / "encoder/config.json", CONFIG)
    write_overlay(project, study={"methods": ["soft_kl", "soft_cos"]})
    ample = Forecast(plan_here(), {}).work(student(plan_here(), "soft_kl"))
    write_overlay(project, study={"methods": ["soft_kl", "soft_cos"]}, machine={"disk_budget_gb": 1e-9})
    scarce = plan_here()
    forecast = Forecast(scarce, {})
    paid, cosine = (forecast.work(student(scarce, name)) for name in ("soft_kl", "soft_cos"))
    # Two student layers are matched with 2 and 4: the teacher is computed up to its fourth, once an epoch.
    assert ample and paid and cosine and cosine.training == ample.training
    assert paid.training == pytest.approx(ample.training * (3 * 2 + 4) / (3 * 2))


def test_lengths_are_counted_once_a_task_is_tokenised(study: Study) -> None:
    tokens = study.tasks["judge"]
    assert size_of_task(tokens) == TaskSize(TRAIN, DEV, LENGTH, 1.1 * LENGTH**2 * TRAIN, "assumed")
    tokens.folder.mkdir(parents=True)
    np.save(tokens.folder / "train.offsets.npy", np.array([0, 3, 8]))
    splits = {"train": {"rows": 2, "tokens": 8}, "dev": {"rows": 5, "tokens": 9}}
    write_json(tokens.marker, {"fingerprint": tokens.fingerprint, "splits": splits, "files": {}})
    assert size_of_task(tokens) == TaskSize(2, 5, 4.0, 3**2 + 5**2, "tokens")


def test_the_papers_tasks_have_a_size_before_anything_is_fetched(project: Path) -> None:
    study = plan_study(load_params(ROOT / "params.yaml"))
    sizes = {name: size_of_task(tokens) for name, tokens in study.tasks.items()}
    assert {name: size and (size.train, size.source) for name, size in sizes.items()} == {
        "cola": (8551, "published"),
        "qqp": (363846, "published"),
        "mrpc": (3668, "published"),
        "rte": (2490, "published"),
    }


def test_another_studys_runs_are_believed_while_there_is_none_of_its_own(project: Path) -> None:
    write_json(project / "encoder/config.json", CONFIG)
    first = plan_here()
    teacher = first.teachers[0]
    tokens = first.tasks["judge"]
    complete(tokens)
    splits = {"train": {"rows": 64, "tokens": 640}, "dev": {"rows": 48, "tokens": 480}}
    write_json(tokens.marker, {"fingerprint": tokens.fingerprint, "splits": splits, "files": {}})
    complete(teacher, seconds=10)
    record = {
        "fingerprint": teacher.fingerprint, "step": "train_teacher", "params": teacher.params(),
        "inputs": teacher.inputs(), "encoder_parameters": 4 * 8544, "seconds": 10, "device": "cpu",
        "files": describe_files(teacher.folder, ["history.jsonl"]),
    }  # fmt: skip
    write_json(teacher.marker, record)
    (project / "results/runs/teachers/judge/tiny/broken").mkdir()
    (project / "results/runs/teachers/judge/tiny/broken/run.json").write_text('{"seco')
    write_overlay(project, study={"name": "other"}, teacher={"epochs": 2})
    other = plan_here()
    forecast = Forecast(other, {})
    assert (forecast.device, forecast.runs) == ("cpu", 1)
    assert 12 < (forecast.seconds(other.teachers[0]) or 0) < 24


@pytest.mark.parametrize("record", [{}, {"seconds": None}, {"seconds": "long"}, {"seconds": 0}, {"seconds": -1}])
def test_a_record_without_a_usable_time_is_passed_over(record: dict[str, Any]) -> None:
    assert read_measured(record) is None
