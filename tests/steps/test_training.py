"""Teachers and students on a tiny study, step by step: what a run writes, and what its numbers depend on."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import matthews_corrcoef
from transformers import BertForSequenceClassification

from internal_kd.artefacts import StudentRun
from internal_kd.data.tokens import TokenStore
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.loss_terms import DistillationLoss
from internal_kd.distillation.predicting import predict_logits
from internal_kd.errors import Interrupted, UserError
from internal_kd.files import read_json, sha256_file, write_json
from internal_kd.models.classifiers import load_classifier
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.params.study import MachineParams
from internal_kd.records import is_complete
from internal_kd.steps.fetch_encoder import fetch_encoder
from internal_kd.steps.fetch_task import fetch_task
from internal_kd.steps.initialize_student import initialize_student
from internal_kd.steps.record_teacher import record_teacher
from internal_kd.steps.tokenize_task import tokenize_task
from internal_kd.steps.train_student import train_student
from internal_kd.steps.train_teacher import train_teacher
from internal_kd.study import Study, plan_study
from tiny_study import ROOT, VALUES, make_encoder

MACHINE = MachineParams()
METHODS = ["finetuned", "soft", "soft_kl_cos", "progressive", "stacked", "stacked_soft_hard"]


def plan(**changes) -> Study:
    study = {"methods": METHODS, "seeds": [1]}
    student = {"epochs": 3, "learning_rate": 1e-3, "cosine_threshold": 0.0}
    values = merge(VALUES, {"study": study, "student": student, "teacher": {"learning_rate": 1e-3, "epochs": 2}})
    return plan_study(parse_params(merge(read_yaml(ROOT / "params.yaml"), merge(values, changes))))


def student(study: Study, method: str) -> StudentRun:
    return next(run for run in study.students if run.method.name == method)


def make(run: StudentRun) -> StudentRun:
    if not is_complete(run.initial):
        initialize_student(run.initial)
    if run.outputs and not is_complete(run.outputs):
        record_teacher(run.outputs, MACHINE)
    train_student(run, MACHINE)
    return run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project folder in which the tiny study's teacher is trained and recorded."""
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(folder)
    torch.set_num_threads(1)
    make_encoder(folder / "encoder")
    study = plan()
    (tokens,) = study.tasks.values()
    fetch_task(tokens.data)
    fetch_encoder(tokens.encoder)
    tokenize_task(tokens)
    train_teacher(study.teachers[0], MACHINE)
    yield folder
    os.chdir(before)


def history(run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]


def test_a_teacher_writes_everything_a_run_promises(project):
    teacher = plan().teachers[0]
    assert is_complete(teacher)
    record = read_json(teacher.marker)
    promised = """fingerprint recipe params inputs data_sha256 git_commit git_dirty lock_sha256 versions device seconds
        peak_memory examples_per_second started finished encoder_parameters total_parameters"""
    assert set(promised.split()) <= set(record)
    predictions = pd.read_parquet(teacher.folder / "predictions.parquet")
    assert list(predictions.columns) == ["idx", "label", "logit_0", "logit_1"] and len(predictions) == 48
    said = predictions[["logit_0", "logit_1"]].to_numpy().argmax(1)
    last = history(teacher)[-1]
    assert last["dev_matthews_correlation"] == pytest.approx(matthews_corrcoef(predictions["label"], said))
    assert record["scores"]["matthews_correlation"] == pytest.approx(last["dev_matthews_correlation"])


@pytest.mark.parametrize("method", METHODS)
def test_a_student_of_every_method_trains_and_keeps_its_book(project, method):
    run = make(student(plan(), method))
    assert is_complete(run)
    epochs = history(run)
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    stages = {
        "progressive": ["layer 1", "layer 2", "classification"],
        "stacked": ["layer 1", "layers 1-2", "classification"],
        "stacked_soft_hard": ["layer 1", "layers 1-2", "classification"],
    }
    assert [epoch["stage"] for epoch in epochs] == stages.get(method, ["all"] * 3)
    for epoch in epochs:
        counted = method not in ("progressive", "stacked") or epoch["stage"] == "classification"
        assert (epoch["dev_accuracy"] is not None) == counted
        assert np.isfinite(epoch["loss"]) and epoch["examples_per_second"] > 0
    terms = {term for epoch in epochs for term in epoch if term in ("hard", "soft", "attention_kl", "cls_cosine")}
    assert terms == set(run.method.weights)
    assert epochs[-1]["learning_rate"] == pytest.approx(0.0, abs=1e-4)


def test_the_internal_losses_fall_where_they_are_trained(project):
    run = student(plan(student={"epochs": 12}), "soft_kl_cos")
    epochs = history(make(run))
    assert epochs[-1]["attention_kl"] < 0.8 * epochs[0]["attention_kl"]
    assert epochs[-1]["cls_cosine"] < 0.8 * epochs[0]["cls_cosine"]


def test_the_same_run_gives_the_same_weights_bit_for_bit(project):
    run = student(plan(), "stacked")
    first = (make(run).folder / "model/model.safetensors").read_bytes()
    train_student(run, MACHINE)
    assert (run.folder / "model/model.safetensors").read_bytes() == first


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_teacher_computed_while_training_teaches_the_same(project, precision):
    # The recording is in the teacher's precision: a student in another one must be told the same. Maps in the student's
    # precision, or not rounded as the disk does, move these losses by 1e-5 to 3e-5.
    run = student(plan(student={"precision": precision}), "soft_kl_cos")
    losses = [epoch["loss"] for epoch in history(make(run))]
    for attention in run.outputs.folder.glob("attention-*.npy"):
        attention.unlink()
    train_student(run, MACHINE)
    assert [epoch["loss"] for epoch in history(run)] == pytest.approx(losses, rel=2e-6)
    run.outputs.marker.unlink()


def test_attention_beyond_the_disk_budget_is_left_to_training(project, capsys):
    outputs = student(plan(), "soft_kl_cos").outputs
    record_teacher(outputs, MachineParams(disk_budget_gb=1e-9))
    assert "exceed machine.disk_budget_gb" in capsys.readouterr().out
    assert read_json(outputs.marker)["attention_layers"] == []
    outputs.marker.unlink()


def test_more_examples_than_there_are_is_one_clear_line(project):
    # Planning refuses what it knows; of what is still to be fetched it does not know the size.
    run = replace(student(plan(), "finetuned"), examples=5000)
    with pytest.raises(UserError, match="5000 are more than the 64 of judge; say 'full'"):
        make(run)


def test_a_smaller_training_set_trains_on_that_many(project):
    run = next(r for r in plan(study={"examples": [32]}).students if r.method.name == "finetuned")
    assert "/n32/" in str(make(run).folder)
    assert read_json(run.marker)["params"]["examples"] == 32


def test_a_loss_that_is_no_number_stops_the_training_and_names_the_step(project):
    run = student(plan(student={"learning_rate": 1e30, "warmup_share": 0.0}), "finetuned")
    with pytest.raises(UserError, match=r"no longer a number at step \d+, epoch \d+ \(hard, loss\)"):
        make(run)
    assert not run.marker.exists()


def test_memory_that_runs_out_is_made_do_with_and_recorded(project, monkeypatch, capsys):
    compute = DistillationLoss.compute

    def cramped(loss, batch, stage):
        if len(batch["labels"]) > 5:
            raise torch.OutOfMemoryError("as a GPU would say")
        return compute(loss, batch, stage)

    monkeypatch.setattr(DistillationLoss, "compute", cramped)
    run = make(student(plan(student={"epochs": 4}), "soft_kl_cos"))
    record = read_json(run.marker)
    assert (record["params"]["batch_size"], record["micro_batch_size"], record["accumulation"]) == (16, 4, 4)
    assert "out of GPU memory: continuing with micro-batches of 4" in capsys.readouterr().out


def interrupted(run: StudentRun, monkeypatch: pytest.MonkeyPatch, *, at: int) -> Path:
    """Stop a training after ``at`` steps; return what its checkpoint says of where it stands."""
    compute, steps = DistillationLoss.compute, 0

    def counted(loss, batch, stage):
        nonlocal steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(loss, batch, stage)

    with monkeypatch.context() as patched:
        patched.setattr(DistillationLoss, "compute", counted)
        with pytest.raises(Interrupted):
            make(run)
    (told,) = run.checkpoints.glob("*/training.json")
    return told


def test_a_resumed_training_counts_the_time_of_every_attempt(project, monkeypatch):
    run = student(plan(student={"epochs": 5}), "finetuned")
    told = interrupted(run, monkeypatch, at=6)
    state = read_json(told)
    assert 0 < state["clock"]["seconds"] < 60 and state["clock"]["started"].startswith("20")
    state["clock"] = {"started": "2020-02-02T00:00:00+00:00", "seconds": 9500.0}
    write_json(told, state)
    # Stopped a second time: what the first attempt took is handed on.
    state = read_json(interrupted(run, monkeypatch, at=6))
    assert 9500 < state["clock"]["seconds"] < 9560
    record = read_json(make(run).marker)
    assert 9500 < record["seconds"] < 9600 and record["started"] == "2020-02-02T00:00:00+00:00"


def test_a_checkpoint_that_knows_nothing_of_time_is_gone_on_from(project, monkeypatch):
    run = student(plan(student={"epochs": 6}), "finetuned")
    told = interrupted(run, monkeypatch, at=6)
    state = read_json(told)
    del state["clock"]
    state["book"]["history"][0]["seconds"], state["book"]["elapsed"] = 300.0, 40.0
    write_json(told, state)
    record = read_json(make(run).marker)
    assert 340 < record["seconds"] < 400
    began, ended = (datetime.fromisoformat(record[name]) for name in ("started", "finished"))
    assert (ended - began).total_seconds() == pytest.approx(record["seconds"], abs=5)


def test_the_code_that_is_named_is_that_of_the_start(project, monkeypatch):
    commit = ["a" * 40]
    monkeypatch.setattr("internal_kd.steps.finishing._git", lambda *arguments: commit[0])
    monkeypatch.chdir(project)
    lock = project / "requirements.lock"
    lock.write_text("torch==1")
    trained_with = sha256_file(lock)

    def commit_meanwhile(history):
        commit[0] = "b" * 40
        lock.write_text("torch==2")

    run = student(plan(student={"epochs": 7}), "finetuned")
    train_student(run, MACHINE, on_epoch=commit_meanwhile)
    record = read_json(run.marker)
    assert (record["git_commit"], record["lock_sha256"]) == ("a" * 40, trained_with)
    lock.unlink()


def test_a_teacher_recorded_with_little_memory_says_the_same(project, monkeypatch, capsys):
    outputs = student(plan(), "soft_kl_cos").outputs
    tokens = TokenStore(outputs.teacher.tokens.folder)
    split = tokens.split("train")
    model = load_classifier(outputs.teacher.folder / "model", tokens.classes)
    hardware = Hardware(torch.device("cpu"), "fp32")

    def everything() -> dict[str, np.ndarray]:
        record_teacher(outputs, MACHINE)
        outputs.marker.unlink()
        recorded = {path.name: np.load(path) for path in outputs.folder.glob("*.npy")}
        return {**recorded, "predicted": predict_logits(model, split, hardware)}

    roomy = everything()
    assert "out of GPU memory" not in capsys.readouterr().out
    forward = BertForSequenceClassification.forward

    def cramped(self, input_ids, **others):
        if len(input_ids) > 5:
            raise torch.OutOfMemoryError("as a GPU would say")
        return forward(self, input_ids, **others)

    monkeypatch.setattr(BertForSequenceClassification, "forward", cramped)
    tight = everything()
    assert capsys.readouterr().out.count("continuing with micro-batches of 4") == 2
    assert roomy.keys() == tight.keys() >= {"ids.npy", "logits.npy", "cls-L2.npy", "attention-L4.npy"}
    for name, values in roomy.items():
        np.testing.assert_allclose(tight[name], values, rtol=2e-3, atol=2e-3, err_msg=name)


def test_students_can_start_from_the_teacher_and_from_nothing(project):
    for source in ("teacher", "random"):
        run = make(student(plan(student={"initialization": {"source": source}}), "soft"))
        assert is_complete(run)
