"""The training loop: learning rates, history, micro-batches, seeds, phases, unlabelled texts, several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import (
    CPU,
    INTERNAL,
    TinyExamples,
    run_training,
    settings,
    tiny_student,
    tiny_teacher,
    tiny_terms,
)

from internal_kd.distillation.answers import Live, Recorded
from internal_kd.distillation.batches import parts_of
from internal_kd.distillation.checkpoints import load_optimizer, optimizer_tensors
from internal_kd.distillation.curricula import Phase, Schedule, Stage
from internal_kd.distillation.history import Clock
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.optimizing import LearningRate, make_optimizer
from internal_kd.distillation.predicting import predict_logits
from internal_kd.distillation.recording import RecordingReader, RecordingWriter
from internal_kd.distillation.terms import asked_of_teacher
from internal_kd.errors import UserError
from internal_kd.learners.learner import OF_PAIRS

NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0}


def trained(weights: dict[str, Any] = INTERNAL, student: Any = None, teacher: Any = None, **given: Any) -> Any:
    student, teacher = student or tiny_student(), teacher or tiny_teacher()
    result = run_training(student, tiny_terms(weights, student, teacher), teacher, **given)
    return student, result


def differ(first: Any, second: Any) -> float:
    mine, others = first.module.state_dict(), second.module.state_dict()
    return max(float((mine[name] - others[name]).abs().max()) for name in mine)


# The optimizer


def test_the_rate_warms_up_holds_while_the_curriculum_climbs_and_decays_to_zero() -> None:
    rate = LearningRate(highest=2.0, warmup_share=0.1, first=0, steps=20, decay_start=None)
    assert [rate.at(step) for step in (0, 1, 2, 15)] == pytest.approx([2 / 3, 4 / 3, 2.0, 2.0])
    rate.decay_start = 10
    assert [rate.at(step) for step in (10, 15, 20)] == [2.0, 1.0, 0.0]


def test_a_phase_has_a_course_of_its_own() -> None:
    rate = LearningRate(highest=1.0, warmup_share=0.0, first=100, steps=4, decay_start=100)
    assert [rate.at(step) for step in range(100, 105)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_only_matrices_decay_and_projections_are_trained_too() -> None:
    student, teacher = tiny_student(), tiny_teacher(width=48)
    loss = DistillationLoss(student, tiny_terms({"hidden_mse": 1.0}, student, teacher), Live(teacher, CPU), CPU)
    groups = make_optimizer((student.module, loss), settings(weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert {weight.ndim for weight in groups[0]["params"]} == {2} and {w.ndim for w in groups[1]["params"]} == {1}
    assert (48, 32) in {tuple(weight.shape) for weight in groups[0]["params"]}


def test_gradient_descent_with_momentum_is_a_choice() -> None:
    start = tiny_student()
    student, result = trained({"hard": 1.0}, training=settings(optimizer="sgd", learning_rate=0.05, epochs=2))
    assert differ(student, start) > 0 and result.history[-1]["loss"] < result.history[0]["loss"]


def test_momentum_comes_back_from_a_checkpoint() -> None:
    student = tiny_student()
    optimizers = [make_optimizer([student.module], settings(optimizer="sgd")) for _ in range(2)]
    for weight in student.module.parameters():
        weight.grad = torch.ones_like(weight)
    optimizers[0].step()
    load_optimizer(optimizers[1], optimizer_tensors(optimizers[0]))
    (weight, *_) = student.module.parameters()
    before, after = (optimizer.state[weight]["momentum_buffer"] for optimizer in optimizers)
    assert before.abs().sum() > 0 and torch.equal(before, after)


# History and logs

KEYS = {"epoch", "stage", "loss", "learning_rate", "examples_per_second", "seconds", "padded_per_real", "dev_accuracy"}


def test_history_has_a_line_for_every_epoch() -> None:
    _, result = trained(curriculum="stacked", training=settings(epochs=4))
    climbing, last = result.history[1], result.history[-1]
    assert [line["stage"] for line in result.history] == ["layer 1", "layers 1-2", "classification", "classification"]
    layered = {"attention_kl", "attention_kl_by_layer", "cls_cosine", "cls_cosine_by_layer"}
    assert climbing.keys() == KEYS | layered and last.keys() == KEYS | {"soft"}
    assert set(climbing["cls_cosine_by_layer"]) == {"1", "2"}
    assert climbing["cls_cosine"] == pytest.approx(np.mean([*climbing["cls_cosine_by_layer"].values()]))
    assert (climbing["dev_accuracy"], last["dev_accuracy"]) == (None, 0.5)
    assert 1 <= last["padded_per_real"] < 2 and last["learning_rate"] == 0.0
    json.dumps(result.history, allow_nan=False)


def test_an_epochs_loss_is_the_mean_over_its_examples() -> None:
    student = tiny_student(**NO_DROPOUT)
    _, result = trained({"hard": 1.0}, student, training=settings(epochs=1, learning_rate=1e-12, batch_size=7))
    logits = torch.from_numpy(predict_logits(student, TinyExamples(), CPU))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(TinyExamples().labels))
    assert result.history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5) == result.history[0]["hard"]


def test_logs_carry_epoch_loss_score_and_time_left() -> None:
    lines: list[str] = []
    trained({"hard": 1.0}, training=settings(epochs=2), log=lines.append)
    assert re.match(r"epoch 1/2 \(all\): loss \d\.\d{4}, dev accuracy 0\.5000, \d+ s left", lines[0])
    assert re.match(r"epoch 2/2", lines[1]) and "left" not in lines[1]


def test_progress_and_every_epoch_are_reported() -> None:
    reports: list[dict[str, int]] = []
    lengths: list[int] = []
    trained({"hard": 1.0}, report=reports.append, on_epoch=lambda history: lengths.append(len(history)))
    assert lengths == [1, 2, 3, 4]
    assert reports[-1] == {"epoch": 4, "epochs": 4, "step": 20, "steps": 20, "resumed_at": 0}


def test_without_a_scorer_nothing_is_scored() -> None:
    _, result = trained({"hard": 1.0}, scorer=None, training=settings(epochs=1))
    assert not [key for key in result.history[0] if key.startswith("dev_")]


def test_a_clock_counts_on_where_an_earlier_attempt_ended() -> None:
    first = Clock()
    second = Clock()
    second.restore({**first.state(), "seconds": 100.0})
    assert second.started == first.started and 100 <= second.seconds <= 100 + first.seconds


# Seeds


def test_one_seed_is_one_training_whatever_was_drawn_before_and_nothing_is_drawn_after() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, _ = trained()
    other, _ = trained()
    assert differ(one, other) == 0
    torch.rand(1)  # tiny_student seeds, so compare states around train alone
    student, teacher = tiny_student(), tiny_teacher()
    before = torch.get_rng_state()
    run_training(student, tiny_terms(INTERNAL, student, teacher), teacher)
    assert torch.equal(torch.get_rng_state(), before) and differ(student, one) == 0


def test_another_seed_is_another_training() -> None:
    assert differ(trained()[0], trained(seed=4)[0]) > 1e-4


def test_dropout_differs_from_step_to_step() -> None:
    # One example, no order to shuffle: two equal steps would give equal losses.
    student = tiny_student(hidden_dropout=0.5)
    _, result = trained({"hard": 1.0}, student, positions=np.arange(1), training=settings(learning_rate=1e-12))
    assert len({line["loss"] for line in result.history}) == 4


# Memory


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for limit in (8, 3):
        student, teacher = tiny_student(**NO_DROPOUT), tiny_teacher()
        terms = tiny_terms({"hard": 1.0}, student, teacher)
        loss = DistillationLoss(student, terms, None, CPU)
        compute = loss.compute

        def cramped(part: Any, *given: Any, compute: Any = compute, limit: int = limit) -> Any:
            if len(part) > limit:
                raise torch.OutOfMemoryError("as a GPU would say")
            return compute(part, *given)

        loss.compute = cramped  # type: ignore[method-assign]
        found[limit] = student, run_training(student, terms, None, loss=loss, training=settings(epochs=1))
    assert (found[3][1].micro_batch_size, found[3][1].accumulation) == (2, 4)
    assert "micro-batches of 2" in capsys.readouterr().out
    assert differ(found[8][0], found[3][0]) < 5e-4
    assert found[8][1].history[0]["loss"] == pytest.approx(found[3][1].history[0]["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in OBJECTIVES if OBJECTIVES[name].across_batch and not OF_PAIRS & {*OBJECTIVES[name].reads}]
)
def test_a_term_across_the_batch_is_not_cut_into_micro_batches(name: str) -> None:
    student, teacher = tiny_student(labels=3), tiny_teacher(labels=3)
    loss = DistillationLoss(student, tiny_terms({name: 1.0}, student, teacher, outputs=3), Live(teacher, CPU), CPU)
    stage = Stage("all", (1, 2), output_terms=True)
    whole, *_ = parts_of(TinyExamples(classes=3).batch(np.arange(8)))
    assert loss.compute(whole, stage).total.isfinite()
    part, *_ = parts_of(TinyExamples(classes=3).batch(np.arange(8)), 4)
    with pytest.raises(UserError, match=f"'{name}' .* batch_size"):
        loss.compute(part, stage)


# Phases, weights that move, unlabelled texts, answers


def test_phases_train_what_they_name_each_with_its_own_rate_and_batches() -> None:
    student, teacher = tiny_student(), tiny_teacher(width=48)
    head = student.module.classifier.weight.detach().clone()
    seen: list[Any] = []
    phases = [
        Phase(epochs=2, terms=("hidden_mse",), learning_rate=2e-3),
        Phase(epochs=1, terms=("soft",), batch_size=4),
    ]

    def on_epoch(history: Any) -> None:
        seen.append(student.module.classifier.weight.detach().clone())

    _, result = trained({"hidden_mse": 1.0, "soft": 1.0}, student, teacher, curriculum=phases, on_epoch=on_epoch)
    assert [line["stage"] for line in result.history] == ["phase 1", "phase 1", "phase 2"]
    assert [line["learning_rate"] for line in result.history] == pytest.approx([1e-3 * 10 / 9, 0, 0], rel=0.2)
    assert torch.equal(seen[1], head) and not torch.equal(seen[2], head)
    assert [line["dev_accuracy"] for line in result.history] == [None, None, 0.5]


def test_weights_that_move_are_those_of_the_step() -> None:
    annealed = {"soft": Schedule(start=1, end=0), "hard": Schedule(start=0, end=1)}
    result = trained(annealed)[1]
    for line in (result.history[0], result.history[-1]):
        # The weights of the middle of an epoch, about.
        progress = (line["epoch"] - 0.6) / 4
        expected = (1 - progress) * line["soft"] + progress * line["hard"]
        assert line["loss"] == pytest.approx(expected, rel=0.05)


def test_unlabelled_texts_are_trained_on_by_every_term_but_hard() -> None:
    weights = {"soft": 1.0, "hard": 1.0}
    mixed = TinyExamples(40, unlabelled=30)
    _, result = trained(weights, examples=mixed, training=settings(epochs=1, learning_rate=1e-12))
    _, labelled = trained(weights, training=settings(epochs=1, learning_rate=1e-12))
    assert result.history[0]["soft"] == pytest.approx(labelled.history[0]["soft"], rel=0.05)
    student, _ = trained({"hard": 1.0}, examples=TinyExamples(40, unlabelled=40), training=settings(epochs=1))
    assert differ(student, tiny_student()) == 0


def test_a_recording_trains_the_student_that_the_teacher_itself_would(tmp_path: Path) -> None:
    student, teacher, examples = tiny_student(**NO_DROPOUT), tiny_teacher(), TinyExamples()
    terms = tiny_terms(INTERNAL, student, teacher)
    sizes = {"classes": 2, "width": 32, "heads": 4}
    writer = RecordingWriter(tmp_path, examples.idx, examples.lengths, asked_of_teacher(terms), sizes)
    everything = np.arange(len(examples))
    writer.write(everything, Live(teacher, CPU).answers(examples.batch(everything), writer.wanted))
    writer.flush()
    run_training(student, terms, Recorded(RecordingReader(tmp_path), None, CPU))
    live, _ = trained(student=tiny_student(**NO_DROPOUT))
    assert differ(student, live) < 5e-3


def test_a_file_of_answers_teaches(tmp_path: Path) -> None:
    examples = TinyExamples()
    ones, certain = np.ones(len(examples), np.int64), torch.eye(2)[examples.labels].clamp(min=1e-6).log()
    writer = RecordingWriter(tmp_path, examples.idx, ones, frozenset({("logits", 0)}), {"classes": 2})
    writer.write(np.arange(len(examples)), {("logits", 0): certain})
    writer.flush()
    answers = Recorded(RecordingReader(tmp_path), None, CPU)
    student = tiny_student(**NO_DROPOUT)
    result = run_training(student, tiny_terms({"soft": 1.0}, student, tiny_teacher()), answers)
    hard, _ = trained({"hard": 1.0}, tiny_student(**NO_DROPOUT))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    # Certain answers at temperature 2 pull where labels pull.
    agree = predict_logits(student, examples, CPU).argmax(1) == predict_logits(hard, examples, CPU).argmax(1)
    assert agree.mean() > 0.8


def test_predictions_are_in_the_order_of_the_examples_and_leave_the_mode() -> None:
    student, examples = tiny_student(), TinyExamples(9)
    student.module.train()
    logits = predict_logits(student, examples, CPU, batch_size=4)
    assert student.module.training and logits.dtype == np.float32
    student.module.eval()
    for position in (0, 5, 8):
        alone = student.read(examples.batch(np.array([position])))["logits", 0].detach().numpy()
        np.testing.assert_allclose(logits[position], alone[0], atol=1e-5)


# Broken numbers


def test_a_loss_that_is_no_longer_a_number_names_step_epoch_and_term() -> None:
    student, teacher = tiny_student(), tiny_teacher()
    with torch.no_grad():
        teacher.module.bert.encoder.layer[1].output.LayerNorm.weight[0] = float("nan")
    with pytest.raises(UserError, match=r"step 1\b.*epoch 1\b.*cls_cosine of layer 1"):
        trained(INTERNAL, student, teacher)


def test_no_example_is_one_line() -> None:
    with pytest.raises(UserError, match="no example"):
        trained({"hard": 1.0}, positions=np.arange(0))


# Several processes

# Both are forked from one that has loaded torch, with the environment that torchrun gives.
SEVERAL = """
import os, sys
from accelerate import PartialState
from internal_kd.distillation.hardware import choose_hardware
from tiny_training import *

def work(rank, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    PartialState(cpu=True)
    hardware = choose_hardware("fp32")
    assert hardware.world == 2
    student, teacher = tiny_student(hidden_dropout=0.0, attention_dropout=0.0), tiny_teacher()
    student.module.classifier.weight.data.mul_(1 - rank)
    hardware.agree(student.module)
    terms = tiny_terms({**INTERNAL, "hard": 0.5}, student, teacher)
    examples = TinyExamples(41, unlabelled=20)
    loss = DistillationLoss(student, terms, Live(teacher, CPU), hardware)
    result = run_training(student, terms, None, loss=loss, examples=examples, hardware=hardware, curriculum="stacked",
                          classification="top", log=lambda line: None)
    torch.save({"weights": student.module.state_dict(), "history": result.history}, f"{folder}/{hardware.rank}.pt")
    torch.distributed.destroy_process_group()

if os.fork() == 0:
    work(1, sys.argv[1])
else:
    work(0, sys.argv[1])
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.slow
def test_two_processes_train_what_one_would(tmp_path: Path) -> None:
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", SEVERAL, str(tmp_path)], env=surroundings, check=True)
    student, one = trained(
        {**INTERNAL, "hard": 0.5},
        tiny_student(**NO_DROPOUT),
        examples=TinyExamples(41, unlabelled=20),
        curriculum="stacked",
    )
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    weights = student.module.state_dict()
    for name, tensor in found[0]["weights"].items():
        assert torch.equal(tensor, found[1]["weights"][name])
        torch.testing.assert_close(tensor, weights[name], atol=2e-3, rtol=1e-3)
    for line, expected in zip(found[0]["history"], one.history, strict=True):
        for key in ("loss", "padded_per_real", *(k for k in ("soft", "hard", "cls_cosine") if k in expected)):
            assert line[key] == pytest.approx(expected[key], rel=1e-3)
