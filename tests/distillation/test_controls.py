"""Controls replace a teacher's answers: shuffled within a label, or one smoothed label of the same mean entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from tiny_training import CPU, TinyExamples

from internal_kd.distillation.answers import Live
from internal_kd.distillation.averaging import Averaged
from internal_kd.distillation.controls import CONTROLS, Controlled, shuffled, uniform
from internal_kd.errors import UserError
from internal_kd.learners.capture import network_of
from tiny_models import tiny_classifier


def entropy(logits: np.ndarray, temperature: float) -> float:
    shares = softmax(logits / temperature, axis=-1)
    return float(-(shares * np.log(np.clip(shares, 1e-300, 1))).sum(-1).mean())


@given(st.integers(1, 60), st.integers(2, 6), st.floats(0.5, 8), st.integers(0, 99))
def test_a_control_keeps_the_mean_entropy(count: int, classes: int, temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = 3 * rng.normal(size=(count, classes)), rng.integers(0, classes, count)
    for control in CONTROLS.values():
        made = control(logits, labels, temperature, seed)
        assert made.shape == logits.shape
        assert entropy(made, temperature) == pytest.approx(entropy(logits, temperature), rel=1e-4, abs=1e-6)


@given(st.integers(2, 60), st.integers(0, 9))
def test_shuffled_answers_stay_with_their_label_and_uniform_ones_know_nothing_else(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(count, 3)), rng.integers(0, 3, count)
    mixed, even = shuffled(logits, labels, 1.0, seed), uniform(logits, labels, 1.0, seed)
    for label in np.unique(labels):
        of_label = labels == label
        assert sorted(map(tuple, mixed[of_label])) == sorted(map(tuple, logits[of_label]))
        assert len(np.unique(even[of_label], axis=0)) == 1
        assert len({*even[of_label][0]}) <= 2
    assert np.array_equal(shuffled(logits, labels, 1.0, seed), mixed)


def test_controlled_answers_are_found_by_example_id() -> None:
    examples, teacher = TinyExamples(), network_of(tiny_classifier(labels=2))
    positions = np.arange(30)
    live = Live(teacher, CPU)
    controlled = Controlled(live, "shuffled", examples, positions, 1.0, 3, CPU)
    wanted = frozenset({("logits", 0)})
    batch = examples.batch(np.array([7, 3, 20]))
    theirs = torch.cat([live.answers(examples.batch(positions[:15]), wanted)["logits", 0],
                        live.answers(examples.batch(positions[15:]), wanted)["logits", 0]])  # fmt: skip
    expected = shuffled(theirs.numpy(), examples.labels[:30], 1.0, 3)[[7, 3, 20]]
    assert np.allclose(controlled.answers(batch, wanted)["logits", 0], expected, atol=1e-6)
    with pytest.raises(UserError, match=r"teacher\.control"):
        controlled.answers(batch, frozenset({("cls", 1)}))


def test_an_average_follows_the_weights_of_its_student() -> None:
    student = network_of(tiny_classifier(labels=2))
    average = Averaged(student, 0.75, CPU)
    expected = {name: weight.clone() for name, weight in student.module.state_dict().items()}
    for step in range(6):
        with torch.no_grad():
            for weight in student.module.parameters():
                weight += 1.0
        average.follow(step)
        share = min(1 - 1 / (step + 1), 0.75)
        for name, weight in student.module.state_dict().items():
            expected[name] = share * expected[name] + (1 - share) * weight
    for name, weight in average.average.state_dict().items():
        assert torch.allclose(weight, expected[name].to(weight.dtype), atol=1e-5)
    assert not any(weight.requires_grad for weight in average.parameters())
