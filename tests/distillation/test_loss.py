"""A batch's loss: every term counts where it belongs and nowhere else, on labelled and unlabelled examples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import CPU, OF_ENCODERS, tiny_student, tiny_teacher, tiny_terms
from torch import Tensor

from internal_kd.distillation.answers import Live
from internal_kd.distillation.batches import Part, parts_of
from internal_kd.distillation.curricula import Phase, Schedule, Stage, stages_of
from internal_kd.distillation.declarations import Objective
from internal_kd.distillation.loss import DistillationLoss, LossTerms
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.errors import UserError
from internal_kd.learners.learner import Network
from tiny_models import tiny_batch

WEIGHTS = {"soft": 1.0, "hard": 0.5, "attention_kl": 1.0, "cls_cosine": 1.0}
(ALL,) = stages_of("all", "top", (0, 1, 2))


def batch(labels: Any = (0, 1, 1)) -> dict[str, Tensor]:
    return {**tiny_batch([6, 3, 8], seed=1), "labels": torch.tensor(labels), "idx": torch.arange(3)}


def part(labels: Any = (0, 1, 1)) -> Part:
    (made,) = parts_of(batch(labels))
    return made


def make(
    weights: dict[str, Any] = WEIGHTS, student: Network | None = None, teacher: Network | None = None, **given: Any
) -> tuple[Network, DistillationLoss]:
    student, teacher = student or tiny_student(), teacher or tiny_teacher()
    terms = tiny_terms(weights, student, teacher, **given)
    return student, DistillationLoss(student, terms, Live(teacher, CPU), CPU, seed=1)


def gradients(weights: dict[str, Any], stage: Stage = ALL, progress: float = 0.0, **given: Any) -> dict[str, Tensor]:
    student, loss = make(weights, **given)
    loss.compute(part(), stage, progress).total.backward()
    return {name: p.grad for name, p in student.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("term", list(WEIGHTS))
def test_every_weight_changes_the_gradient(term: str) -> None:
    usual, heavier = gradients(WEIGHTS), gradients({**WEIGHTS, term: 3 * WEIGHTS[term]})
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(usual[query], heavier[query], rtol=1e-3)


def test_the_teacher_receives_no_gradient_and_stays_in_eval_mode() -> None:
    teacher = tiny_teacher()
    student, loss = make(teacher=teacher)
    student.module.train()
    loss.train()
    loss.compute(part(), ALL).total.backward()
    assert not teacher.module.training
    assert all(p.grad is None for p in teacher.module.parameters())


@pytest.mark.parametrize("curriculum", ["progressive", "stacked"])
def test_a_stage_trains_nothing_above_its_highest_layer(curriculum: str) -> None:
    touched = gradients(WEIGHTS, stages_of(curriculum, "top", (1, 2))[0])
    assert any("encoder.layer.0" in name for name in touched)
    assert not any("encoder.layer.1" in name or "classifier" in name or "pooler" in name for name in touched)


def test_a_truncated_stage_has_the_gradients_of_the_complete_computation() -> None:
    stage = stages_of("stacked", "top", (1, 2))[0]
    truncated = gradients(WEIGHTS, stage)
    # Terms on the outputs cannot reach layer 1's internals when their weight is as good as nothing.
    complete = Stage("complete", stage.layers, output_terms=True)
    full = gradients({"soft": 1e-30, "attention_kl": 1.0, "cls_cosine": 1.0}, complete)
    for name, gradient in truncated.items():
        torch.testing.assert_close(gradient, full[name], msg=name)


def test_the_last_stage_reads_no_internals() -> None:
    terms = make()[1].compute(part(), stages_of("progressive", "top", (1, 2))[-1])
    assert terms.layers == {} and set(terms.output) == {"soft", "hard"}


def test_the_total_is_the_weighted_sum_of_its_terms() -> None:
    terms = make()[1].compute(part(), ALL)
    parts = [WEIGHTS[name] * value for name, value in terms.output.items()]
    parts += [WEIGHTS[name] * value for name, layers in terms.layers.items() for value in layers.values()]
    torch.testing.assert_close(terms.total, torch.stack(parts).sum())
    assert set(terms.layers) == {"attention_kl", "cls_cosine"} and set(terms.layers["attention_kl"]) == {1, 2}


def test_phases_count_the_terms_they_name() -> None:
    phases = (Phase(epochs=1, terms=("cls_cosine",)), Phase(epochs=1, terms=("soft", "hard", "attention_kl")))
    first, second = stages_of(phases, "top", (1, 2), WEIGHTS)
    terms = make()[1].compute(part(), first)
    assert set(terms.layers) == {"cls_cosine"} and not terms.output
    terms = make()[1].compute(part(), second)
    assert set(terms.layers) == {"attention_kl"} and set(terms.output) == {"soft", "hard"}


def test_a_weight_moves_with_progress() -> None:
    annealed = {"soft": Schedule(start=1, end=0), "hard": Schedule(start=0, end=1)}
    for progress in (0.0, 0.25, 1.0):
        fixed = gradients({"soft": 1 - progress or 1e-30, "hard": progress or 1e-30})
        for name, gradient in gradients(annealed, progress=progress).items():
            torch.testing.assert_close(gradient, fixed[name], msg=name)


def test_values_take_mean_squared_errors() -> None:
    student = tiny_student(labels=1)
    weights = {"hard": 1.0, "soft": 1.0}
    _, loss = make(weights, student, tiny_teacher(labels=1), kind="values", outputs=1)
    labels = (0.5, 2.0, 4.5)
    terms = loss.compute(part(labels), ALL)
    predicted = student.read(batch(labels))["logits", 0][:, 0]
    torch.testing.assert_close(terms.output["hard"], (predicted - torch.tensor(labels)).square().mean())


def test_a_term_that_compares_needs_a_teacher() -> None:
    student = tiny_student()
    with pytest.raises(UserError, match="'soft'"):
        DistillationLoss(student, tiny_terms({"hard": 1.0, "soft": 1.0}, student, tiny_teacher()), None, CPU)


# Unlabelled examples


def test_labels_count_on_labelled_examples_and_everything_else_on_all() -> None:
    some, all_labelled = make()[1].compute(part((0, -1, 1)), ALL), make()[1].compute(part(), ALL)
    assert some.counts == {"soft": 3, "hard": 2, "attention_kl": 3, "cls_cosine": 3}
    assert torch.equal(some.output["soft"], all_labelled.output["soft"])
    logits = make()[0].read(batch())["logits", 0]
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([0, 1]))
    torch.testing.assert_close(some.output["hard"], expected)


def test_values_without_a_number_do_not_count() -> None:
    student, loss = make({"hard": 1.0}, tiny_student(labels=1), kind="values", outputs=1)
    terms = loss.compute(part((0.5, float("nan"), 4.5)), ALL)
    predicted = student.read(batch())["logits", 0][:, 0]
    expected = (predicted[[0, 2]] - torch.tensor([0.5, 4.5])).square().mean()
    torch.testing.assert_close(terms.output["hard"], expected)


def test_a_batch_without_labels_contributes_nothing_to_terms_that_read_them() -> None:
    terms = make({"hard": 1.0})[1].compute(part((-1, -1, -1)), ALL)
    assert terms.total == 0 and not terms.total.requires_grad and not terms.output
    assert set(make()[1].compute(part((-1, -1, -1)), ALL).output) == {"soft"}


@pytest.mark.parametrize("labels", [(0, 1, 1), (0, -1, 1), (-1, -1, 1), (-1, -1, -1)])
def test_micro_batches_give_the_gradients_of_the_batch(labels: tuple[int, ...]) -> None:
    found = []
    for size in (3, 1):
        student, loss = make()
        for piece in parts_of(batch(labels), size):
            loss.compute(piece, ALL).total.backward()
        found.append({name: p.grad for name, p in student.module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], msg=name, atol=1e-5, rtol=1e-4)


# Projections


def projected(weights: dict[str, float], options: dict[str, Any] | None = None, width: int = 48) -> LossTerms:
    _, loss = make(weights, teacher=tiny_teacher(width=width), options=options)
    terms = loss.compute(part(), ALL)
    terms.total.backward()
    terms.shapes = {  # type: ignore[attr-defined]
        name: tuple(weight.shape) for name, weight in loss.named_parameters() if weight.grad.abs().sum() > 0
    }
    return terms


def test_one_projection_serves_all_layers_and_is_trained() -> None:
    terms = projected({"hidden_mse": 1.0})
    assert sorted(terms.shapes.values()) == [(48,), (48, 32)]
    assert set(terms.layers["hidden_mse"]) == {1, 2}


def test_or_each_layer_has_its_own() -> None:
    terms = projected({"hidden_mse": 1.0}, {"hidden_mse": {"projection": "per_layer", "layers": "map_with_embeddings"}})
    assert len(terms.shapes) == 6 and set(terms.layers["hidden_mse"]) == {0, 1, 2}


def test_equal_widths_need_no_projection_unless_it_is_asked_for() -> None:
    assert projected({"hidden_mse": 1.0, "cls_cosine": 1.0}, width=32).shapes == {}
    assert len(projected({"hidden_mse": 1.0}, {"hidden_mse": {"always_project": True}}, width=32).shapes) == 2


def test_a_projections_first_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = make({"hidden_mse": 1.0}, teacher=tiny_teacher(width=48))[1].state_dict()
    torch.manual_seed(2)
    second = make({"hidden_mse": 1.0}, teacher=tiny_teacher(width=48))[1].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    (weight,) = (tensor for tensor in first.values() if tensor.ndim == 2)
    assert 0.018 < weight.std() < 0.022


def test_the_student_is_no_part_of_what_the_loss_keeps() -> None:
    assert not make()[1].state_dict()


# What functions are given


def seen(reads: tuple[str, ...], per: str, **facts: Any) -> dict[str, Any]:
    """Call an objective of this declaration and return what its function was given."""
    given: dict[str, Any] = {}

    def function(*tensors: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        given.update(shapes=[tuple(tensor.shape) for tensor in tensors], options=options)
        return tensors[0].float().sum() * 0, torch.tensor(3.0)

    OBJECTIVES.add("own", Objective("tiny_training:own", reads, per, **facts))  # type: ignore[arg-type]
    import tiny_training

    tiny_training.own = function  # type: ignore[attr-defined]
    try:
        terms = make({"own": 1.0})[1].compute(part((0, -1, 1)), ALL)
        given["total"] = terms.total.item()
    finally:
        OBJECTIVES._entries.pop("own")
    return given


def test_a_function_is_given_student_and_teacher_then_mask_then_labels() -> None:
    given = seen(("hidden", "cls", "labels"), "pair", options={"window": 4}, settings=("temperature",), layers="last")
    # Two of three examples have a label.
    assert given["shapes"] == [(2, 8, 32), (2, 8, 32), (2, 32), (2, 32), (2, 8), (2,)]
    assert given["options"] == {"window": 4, "temperature": 2.0}
    assert given["total"] == pytest.approx(3.0 * 1.0)


def test_a_stack_is_all_levels_at_once() -> None:
    given = seen(("hidden",), "stack", layers="map_with_embeddings")
    assert given["shapes"] == [(3, 3, 8, 32), (3, 3, 8, 32), (3, 8)] and given["total"] == 3.0


def test_without_the_teachers_side_only_the_students_is_given() -> None:
    assert seen(("hidden",), "pair", teacher=False)["shapes"] == [(3, 8, 32), (3, 8)]


@pytest.mark.parametrize("name", OF_ENCODERS)
def test_every_objective_can_be_trained(name: str) -> None:
    student, teacher = tiny_student(labels=3), tiny_teacher(labels=3)
    options = {name: {"heads": 4}} if "heads" in OBJECTIVES[name].options else {}
    _, loss = make({name: 1.0}, student, teacher, outputs=3, options=options)
    total = loss.compute(part((0, 2, 1)), ALL).total
    total.backward()
    assert torch.isfinite(total) and any(p.grad is not None for p in student.module.parameters())
