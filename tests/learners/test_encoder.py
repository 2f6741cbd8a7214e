"""Where a student's first weights come from."""

import pytest
import torch
from transformers import PreTrainedModel

from internal_kd.errors import UserError
from internal_kd.models.attention import record_internals
from internal_kd.models.classifiers import freeze_teacher, load_classifier, save_classifier
from internal_kd.models.families import FAMILIES, encoder_layers
from internal_kd.models.students import initialize_student, random_student, student_from
from tiny_models import tiny_batch, tiny_classifier

families = pytest.mark.parametrize("family", list(FAMILIES))


def layer_weights(model: PreTrainedModel, layer: int) -> list[torch.Tensor]:
    return list(encoder_layers(model)[layer - 1].state_dict().values())


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(first, second, strict=True))


@families
@pytest.mark.parametrize(
    ("layers", "expected"), [("first", (1, 2)), ("every_other", (2, 4)), ("last", (3, 4)), ([1, 3], (1, 3))]
)
def test_a_student_holds_the_chosen_layers_and_everything_around_them(family: str, layers, expected) -> None:
    source = tiny_classifier(family)
    student = initialize_student(source, 2, layers)
    assert student.config.num_hidden_layers == 2 and len(encoder_layers(student)) == 2
    for layer, origin in enumerate(expected, start=1):
        assert same(layer_weights(student, layer), layer_weights(source, origin))
    around = [n for n in student.state_dict() if ".layer." not in n]
    assert any("embeddings" in name for name in around) and any("classifier" in name for name in around)
    assert all(student.state_dict()[name].equal(source.state_dict()[name]) for name in around)


@families
def test_a_student_of_full_depth_is_the_source(family: str) -> None:
    source, batch = tiny_classifier(family), tiny_batch([6, 2])
    assert student_from(source, 4, (1, 2, 3, 4))(**batch).logits.equal(source(**batch).logits)


@families
def test_a_student_can_be_saved_and_loaded_at_its_depth(family: str, tmp_path) -> None:
    student, batch = initialize_student(tiny_classifier(family), 3, "first"), tiny_batch([6, 2])
    save_classifier(student, tmp_path)
    loaded = load_classifier(tmp_path, 2)
    assert len(encoder_layers(loaded)) == 3
    assert loaded(**batch).logits.equal(student(**batch).logits)


def test_training_a_student_leaves_its_frozen_teacher_alone() -> None:
    teacher = freeze_teacher(tiny_classifier())
    record_internals(teacher)
    before = [weight.clone() for weight in teacher.parameters()]
    student = initialize_student(teacher, 2, "every_other").train()
    assert student.training and all(weight.requires_grad for weight in student.parameters())
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(1.0)
    assert same(list(teacher.parameters()), before) and len(encoder_layers(teacher)) == 4


@families
def test_a_random_student_comes_from_its_seed_and_from_nothing_else(family: str) -> None:
    source = tiny_classifier(family)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first, again, other = (initialize_student(source, 2, "random", seed=seed) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(state)
    assert same(list(first.state_dict().values()), list(again.state_dict().values()))
    assert not same(layer_weights(first, 1), layer_weights(other, 1))
    assert not same(layer_weights(first, 1), layer_weights(source, 1))
    # Drawn as the architecture wants it: weights of the config's spread, neutral layer norms.
    weights = torch.cat([w.flatten() for w in layer_weights(first, 1) if w.ndim == 2])
    assert weights.std().item() == pytest.approx(first.config.initializer_range, rel=0.1)
    norms = [w for n, w in first.named_parameters() if "norm.weight" in n.lower()]
    assert norms and all(norm.eq(1).all() for norm in norms)


def test_a_student_is_fp32_whatever_its_source() -> None:
    source = tiny_classifier().half()
    for student in (initialize_student(source, 2, "first"), random_student(source, 2, seed=0)):
        assert {weight.dtype for weight in student.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("depth", "layers", "named"),
    [
        (5, "first", "deeper"),
        (5, "random", "deeper"),
        (3, "every_other", "divides"),
        (2, [1, 5], "1 to 4"),
        (2, [1], "1 layers for a student of 2"),
        (2, "middle", "every_other, spread, first, last"),
    ],
)
def test_layers_that_do_not_fit_are_refused(depth: int, layers, named: str) -> None:
    with pytest.raises(UserError, match=named):
        initialize_student(tiny_classifier(), depth, layers)
