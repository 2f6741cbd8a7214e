"""A training that was stopped goes on and ends with the weights of one that never was, bit for bit."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import set_seed

from internal_kd.distillation.checkpoints import CheckpointFolder, Interrupted, read_tensors
from internal_kd.distillation.curricula import Climb, stages_of
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.loss_terms import DistillationLoss
from internal_kd.distillation.teachers import ComputedTeacher
from internal_kd.distillation.trainer import train
from internal_kd.errors import UserError
from internal_kd.models.classifiers import freeze_teacher
from internal_kd.params.training import TrainingParams
from tiny_models import tiny_classifier

HARDWARE = Hardware(torch.device("cpu"), "fp32")
EPOCHS, STEPS_PER_EPOCH = 4, 5
WEIGHTS = {"soft": 1.0, "attention_kl": 1.0, "cls_cosine": 1.0}


class Split:
    """Forty random examples, as a tokenised split gives them."""

    lengths = np.random.default_rng(0).integers(3, 12, 40)

    def __len__(self) -> int:
        return 40

    def vocabulary(self, positions) -> np.ndarray:
        return np.unique(self.batch(positions)["input_ids"])

    def batch(self, positions) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(2, 50, (40, 12), generator=generator)[positions]
        mask = torch.arange(12) < torch.from_numpy(self.lengths[positions])[:, None]
        longest = int(self.lengths[positions].max())
        made = {"input_ids": (ids * mask + ~mask)[:, :longest], "attention_mask": mask.long()[:, :longest]}
        return {**made, "labels": ids[:, 0] % 2, "idx": torch.as_tensor(positions)}


class Scorer:
    metrics = ("accuracy",)

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.asked = kill_at, 0

    def scores(self) -> dict[str, float | None]:
        return {"accuracy": 0.5}


def run(scratch: Path, curriculum: str, *, stop_at: int | None = None, by=signal.SIGTERM, minutes: float = 1e9):
    """Train a tiny student; at step ``stop_at`` the signal arrives, or the process "dies" with a KeyError."""
    set_seed(7)
    student = tiny_classifier(layers=2, seed=5).train()
    teacher = ComputedTeacher(freeze_teacher(tiny_classifier(layers=4, seed=6)), HARDWARE)
    loss = DistillationLoss(student, teacher, WEIGHTS, (2, 4), 1.0, HARDWARE)
    steps = 0
    compute = loss.compute

    def counted(batch, stage):
        nonlocal steps
        steps += 1
        if steps == stop_at and by == "death":
            raise KeyError("died")
        if steps == stop_at and by == "nan":
            terms = compute(batch, stage)
            return replace(terms, total=terms.total * float("nan"))
        if steps == stop_at and by == "gradient":
            student.classifier.weight.register_hook(lambda gradient: gradient * float("nan"))
        elif steps == stop_at:
            os.kill(os.getpid(), by)
        return compute(batch, stage)

    loss.compute = counted  # the signal must arrive inside a step, as it does in life
    result = train(
        student,
        loss,
        split=Split(),
        positions=np.arange(40),
        climb=Climb(stages_of(curriculum, "top", 2), epochs_per_layer=1, cosine_threshold=0.0),
        training=TrainingParams(epochs=EPOCHS, batch_size=8, learning_rate=1e-3),
        seed=3,
        hardware=HARDWARE,
        scratch=scratch,
        checkpoint_minutes=minutes,
        scorer=Scorer(),
        report=lambda progress: None,
    )
    return student.state_dict(), result.history


def same(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def without_time(history):
    return [{k: v for k, v in epoch.items() if k not in ("seconds", "examples_per_second")} for epoch in history]


@pytest.mark.parametrize("curriculum", ["all", "progressive", "stacked"])
@pytest.mark.parametrize("stop_at", [2, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, 13])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, curriculum, stop_at):
    whole, history = run(tmp_path / "whole", curriculum)
    with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step {stop_at}; start again"):
        run(tmp_path / "cut", curriculum, stop_at=stop_at)
    resumed, book = run(tmp_path / "cut", curriculum)
    assert same(whole, resumed)
    assert without_time(book) == without_time(history)


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path):
    whole, history = run(tmp_path / "whole", "stacked")
    with pytest.raises(KeyError):
        run(tmp_path / "cut", "stacked", stop_at=14, by="death", minutes=1e-9)  # a checkpoint every step
    assert CheckpointFolder(tmp_path / "cut", 1.0).newest().name == "step-13"
    resumed, book = run(tmp_path / "cut", "stacked")
    assert same(whole, resumed) and without_time(book) == without_time(history)


def test_twice_stopped_is_no_different(tmp_path):
    whole, _ = run(tmp_path / "whole", "progressive")
    for stop_at in (4, 7):
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", "progressive", stop_at=stop_at, by=signal.SIGINT)
    resumed, _ = run(tmp_path / "cut", "progressive")
    assert same(whole, resumed)


@pytest.mark.parametrize(
    ("by", "said"), [("nan", "no longer a number at step 9"), ("gradient", "no longer numbers after")]
)
def test_a_loss_that_is_no_number_never_replaces_the_last_good_checkpoint(tmp_path, by, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path, "all", stop_at=9, by=by, minutes=1e-9)
    newest = CheckpointFolder(tmp_path, 1.0).newest()
    assert newest.name == "step-8"
    assert all(torch.isfinite(weight).all() for weight in read_tensors(newest, "model").values())


def test_a_checkpoint_that_was_never_finished_does_not_count(tmp_path):
    (tmp_path / "step-9").mkdir()
    (tmp_path / "step-9/model.safetensors").write_bytes(b"half")
    assert CheckpointFolder(tmp_path, 1.0).newest() is None


def test_no_checkpoint_holds_a_pickle(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, "all", stop_at=3)
    names = {path.name for path in (tmp_path / "step-3").iterdir()}
    assert names == {
        "model.safetensors", "optimizer.safetensors", "random.safetensors", "training.json", "trainer_state.json",
    }  # fmt: skip


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(tmp_path, capsys):
    student = tiny_classifier(layers=2, seed=5, hidden_dropout=0.0, attention_dropout=0.0)
    weights = {}
    for limit in (8, 3):
        set_seed(7)
        student = tiny_classifier(layers=2, seed=5, hidden_dropout=0.0, attention_dropout=0.0)
        loss = DistillationLoss(student, None, {"hard": 1.0}, (), 1.0, HARDWARE)
        compute = loss.compute

        def cramped(batch, stage, compute=compute, limit=limit):
            if len(batch["labels"]) > limit:
                raise torch.OutOfMemoryError("as a GPU would say")
            return compute(batch, stage)

        loss.compute = cramped
        result = train(
            student,
            loss,
            split=Split(),
            positions=np.arange(40),
            climb=Climb(stages_of("all", "top", 2), 1, 0.0),
            training=TrainingParams(epochs=1, batch_size=8, learning_rate=1e-3),
            seed=3,
            hardware=HARDWARE,
            scratch=tmp_path / str(limit),
            checkpoint_minutes=1e9,
            scorer=Scorer(),
            report=lambda progress: None,
        )
        weights[limit] = (student.state_dict(), result)
    assert (weights[3][1].micro_batch_size, weights[3][1].accumulation) == (2, 4)
    assert "micro-batches of 2" in capsys.readouterr().out
    for name, tensor in weights[8][0].items():
        torch.testing.assert_close(tensor, weights[3][0][name], atol=5e-4, rtol=1e-3)
