"""How far students' attention is from the teacher's, compared with plain eager attention and the training loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import CPU, TinyExamples

from internal_kd.distillation import attention_maps
from internal_kd.distillation.attention_losses import attention_kl, attention_kl_by_head
from internal_kd.distillation.attention_maps import Distance, Student, measure_distances
from internal_kd.errors import UserError
from internal_kd.learners.capture import network_of
from internal_kd.learners.learner import Network
from tiny_models import tiny_batch, tiny_classifier

EXAMPLES = TinyExamples(7)
two_families = pytest.mark.parametrize("family", ["bert", "roberta"])


def network(family: str = "bert", **settings: int) -> Network:
    return network_of(tiny_classifier(family, **settings))


def measure(teacher: Network, students: list[Student], shown: tuple[int, ...] = ()) -> list[Distance | str]:
    return measure_distances(lambda: teacher, students, EXAMPLES, np.arange(len(EXAMPLES)), shown, CPU)


def distance(found: Distance | str) -> Distance:
    assert isinstance(found, Distance), found
    return found


def eager_attention(read: Network, position: int) -> list[np.ndarray]:
    """Every layer's probabilities as transformers itself gives them in eval mode, one example without padding."""
    read.module.set_attn_implementation("eager")
    with torch.no_grad():
        ids = EXAMPLES.batch(np.array([position]))["input_ids"]
        out = read.module(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
    read.module.set_attn_implementation("sdpa")
    return [layer[0].double().numpy() for layer in out.attentions]


@two_families
def test_by_head_it_averages_to_the_loss(family: str) -> None:
    batch = tiny_batch([9, 3, 6], length=11)
    one = ("attention", 3)
    with torch.no_grad():
        student, teacher = (network(family, seed=seed).read(batch, frozenset({one}))[one] for seed in (1, 2))
    by_head = attention_kl_by_head(student, teacher, batch["attention_mask"])
    assert by_head.shape == (3, 4) and (by_head > 0).all()
    loss = attention_kl(student, teacher, batch["attention_mask"])
    assert by_head.mean().item() == pytest.approx(loss.item(), rel=1e-6)


@two_families
def test_layers_are_matched_as_said_and_each_head_is_what_eager_attention_gives(family: str) -> None:
    teacher, student = network(family, seed=1), network(family, seed=2, layers=2)
    (found,) = measure(teacher, [Student(lambda: student, ((1, 2), (2, 4)))], shown=(3,))
    kl = distance(found).kl
    assert kl.shape == (len(EXAMPLES), 2, 4)
    for position in range(len(EXAMPLES)):
        learned, taught = eager_attention(student, position), eager_attention(teacher, position)
        for layer, matched in ((0, 1), (1, 3)):
            p, q = taught[matched], learned[layer]
            expected = (p * np.log(p / q)).sum(-1).mean(-1)
            assert kl[position, layer] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert distance(found).maps[3] == pytest.approx(eager_attention(student, 3)[1], abs=1e-5)
    assert list(distance(found).teacher_maps) == [3]


@two_families
def test_the_teacher_itself_is_at_distance_zero(family: str) -> None:
    teacher = network(family)
    (found,) = measure(teacher, [Student(lambda: teacher, tuple((n, n) for n in (1, 2, 3, 4)))])
    assert (distance(found).kl == 0).all()


def test_it_is_the_same_every_time_and_in_as_many_rounds_as_memory_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = network(seed=1), Student(lambda: network(seed=2, layers=2), ((1, 2), (2, 4)))
    monkeypatch.setattr(attention_maps, "BATCH_SIZE", 2)
    once, again = (distance(measure(teacher, [student])[0]).kl for _ in range(2))
    assert once.tobytes() == again.tobytes()
    monkeypatch.setattr(attention_maps, "MAPS_BYTES", 1)
    assert distance(measure(teacher, [student])[0]).kl.tobytes() == once.tobytes()


def test_a_student_that_cannot_be_measured_is_named_and_the_others_are_measured() -> None:
    def nowhere() -> Network:
        raise UserError("nowhere does not exist")

    teacher = network()
    students = [
        Student(lambda: network(layers=2, heads=2), ((1, 2), (2, 4))),
        Student(nowhere, ((1, 4),)),
        Student(lambda: teacher, ((4, 4),)),
    ]
    heads, missing, same = measure(teacher, students)
    assert "2 heads" in str(heads) and "4" in str(heads)
    assert missing == "nowhere does not exist" and isinstance(same, Distance)
