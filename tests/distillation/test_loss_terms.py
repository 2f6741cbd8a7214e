"""A batch's loss: every term of a method counts, in the stage it belongs to and in no other."""

import pytest
import torch

from internal_kd.distillation.curricula import Stage, stages_of
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.loss_terms import DistillationLoss
from internal_kd.distillation.teachers import ComputedTeacher
from internal_kd.models.classifiers import freeze_teacher
from tiny_models import tiny_batch, tiny_classifier

HARDWARE = Hardware(torch.device("cpu"), "fp32")
MAP = (2, 4)
WEIGHTS = {"soft": 1.0, "hard": 0.5, "attention_kl": 1.0, "cls_cosine": 1.0}
ALL = stages_of("all", "top", 2)[0]


def batch() -> dict[str, torch.Tensor]:
    made = tiny_batch([6, 3, 8], seed=1)
    return {**made, "labels": torch.tensor([0, 1, 1]), "idx": torch.arange(3)}


def gradients(weights: dict[str, float], stage: Stage = ALL) -> dict[str, torch.Tensor]:
    student = tiny_classifier(layers=2, seed=5)
    teacher = ComputedTeacher(freeze_teacher(tiny_classifier(layers=4, seed=6)), HARDWARE)
    torch.manual_seed(0)
    DistillationLoss(student, teacher, weights, MAP, 2.0, HARDWARE).compute(batch(), stage).total.backward()
    return {name: p.grad for name, p in student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("term", list(WEIGHTS))
def test_every_weight_changes_the_gradient(term):
    usual, heavier = gradients(WEIGHTS), gradients({**WEIGHTS, term: 3 * WEIGHTS[term]})
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(usual[query], heavier[query], rtol=1e-3)


def test_the_teacher_receives_no_gradient_and_stays_in_eval_mode():
    model = freeze_teacher(tiny_classifier(layers=4, seed=6))
    student = tiny_classifier(layers=2, seed=5).train()
    loss = DistillationLoss(student, ComputedTeacher(model, HARDWARE), WEIGHTS, MAP, 1.0, HARDWARE)
    loss.compute(batch(), ALL).total.backward()
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("curriculum", ["progressive", "stacked"])
def test_a_stage_trains_nothing_above_its_highest_layer(curriculum):
    first = stages_of(curriculum, "top", 2)[0]
    touched = gradients(WEIGHTS, first)
    assert any("encoder.layer.0" in name for name in touched)
    assert not any("encoder.layer.1" in name or "classifier" in name or "pooler" in name for name in touched)


def test_a_truncated_stage_has_the_gradients_of_the_whole_computation():
    stage = stages_of("stacked", "top", 2)[0]
    whole = Stage("whole", stage.layers, classification=True)
    truncated = gradients(WEIGHTS, stage)
    # Terms of the output cannot reach layer 1's internals when their weight is as good as nothing.
    full = gradients({"soft": 1e-30, "attention_kl": 1.0, "cls_cosine": 1.0}, whole)
    for name, gradient in truncated.items():
        torch.testing.assert_close(gradient, full[name], msg=name)


def test_the_classification_stage_reads_no_internals():
    last = stages_of("progressive", "top", 2)[-1]
    student = tiny_classifier(layers=2, seed=5)
    teacher = ComputedTeacher(freeze_teacher(tiny_classifier(layers=4, seed=6)), HARDWARE)
    terms = DistillationLoss(student, teacher, WEIGHTS, MAP, 1.0, HARDWARE).compute(batch(), last)
    assert terms.layers == {} and set(terms.output) == {"soft", "hard"}


def test_the_total_is_the_weighted_sum_of_its_terms():
    student = tiny_classifier(layers=2, seed=5)
    teacher = ComputedTeacher(freeze_teacher(tiny_classifier(layers=4, seed=6)), HARDWARE)
    terms = DistillationLoss(student, teacher, WEIGHTS, MAP, 2.0, HARDWARE).compute(batch(), ALL)
    parts = sum(WEIGHTS[name] * value for name, value in terms.output.items())
    parts += sum(WEIGHTS[name] * value for name, layers in terms.layers.items() for value in layers.values())
    torch.testing.assert_close(terms.total, parts)
    assert set(terms.layers) == {"attention_kl", "cls_cosine"} and set(terms.layers["attention_kl"]) == {1, 2}


def test_regression_takes_mean_squared_errors():
    student = tiny_classifier(layers=2, seed=5, labels=1)
    teacher = ComputedTeacher(freeze_teacher(tiny_classifier(layers=4, seed=6, labels=1)), HARDWARE)
    made = {**batch(), "labels": torch.tensor([0.5, 2.0, 4.5])}
    terms = DistillationLoss(student, teacher, {"hard": 1.0, "soft": 1.0}, (), 1.0, HARDWARE).compute(made, ALL)
    said = student(input_ids=made["input_ids"], attention_mask=made["attention_mask"]).logits[:, 0]
    torch.testing.assert_close(terms.output["hard"], (said - made["labels"]).square().mean())
