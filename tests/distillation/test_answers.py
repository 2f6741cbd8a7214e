"""Answers in all their forms: of one teacher and of several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import CPU, TinyExamples, tiny_teacher

from internal_kd.distillation.answers import Answers, Live, Mean, mean_answer
from internal_kd.errors import UserError
from internal_kd.learners.learner import LOGITS

EXAMPLES = TinyExamples(6)
BATCH = EXAMPLES.batch(np.array([3, 0, 4]))


def logits(answers: Answers) -> torch.Tensor:
    return answers.answers(BATCH, LOGITS)["logits", 0]


def teachers(count: int = 3, **settings: int) -> list[Live]:
    return [Live(tiny_teacher(seed=seed, **settings), CPU) for seed in range(count)]


def test_a_live_teacher_is_frozen_and_gives_no_gradient() -> None:
    network = tiny_teacher(hidden_dropout=0.5)
    network.module.train()
    live = Live(network, CPU)
    network.module.train()
    assert torch.equal(logits(live), logits(live)) and not logits(live).requires_grad
    assert not any(weight.requires_grad for weight in network.module.parameters())


def test_probabilities_are_averaged_as_probabilities() -> None:
    members = teachers()
    expected = torch.stack([logits(member).softmax(-1) for member in members]).mean(0)
    torch.testing.assert_close(logits(Mean(members, "mean_probabilities")).softmax(-1), expected)


def test_logits_are_averaged_as_logits() -> None:
    members = teachers()
    expected = torch.stack([logits(member) for member in members]).mean(0)
    torch.testing.assert_close(logits(Mean(members, "mean_logits")), expected)


@pytest.mark.parametrize("combine", ["mean_probabilities", "mean_logits"])
def test_values_are_averaged_as_values(combine: str) -> None:
    members = teachers(2, labels=1)
    torch.testing.assert_close(logits(Mean(members, combine)), (logits(members[0]) + logits(members[1])) / 2)


def test_certain_teachers_that_disagree_leave_finite_answers() -> None:
    answer = mean_answer(torch.tensor([[[200.0, -200.0]], [[-200.0, 200.0]]]), "mean_probabilities")
    torch.testing.assert_close(answer.softmax(-1), torch.tensor([[0.5, 0.5]]))


def test_internals_of_an_ensemble_are_one_members_or_refused() -> None:
    members = teachers()
    asked = LOGITS | {("cls", 2)}
    found = Mean(members, "mean_logits", internals=1).answers(BATCH, asked)
    assert torch.equal(found["cls", 2], members[1].answers(BATCH, asked)["cls", 2])
    torch.testing.assert_close(found["logits", 0], logits(Mean(members, "mean_logits")))
    with pytest.raises(UserError, match="cls of layer 2"):
        Mean(members, "mean_logits").answers(BATCH, asked)
    with pytest.raises(UserError, match="ensemble"):
        Mean([], "mean_logits")


def test_an_ensemble_asked_for_internals_alone_asks_one_member() -> None:
    class Silent:
        def answers(self, batch: object, wanted: object) -> dict:
            raise AssertionError("asked")

    found = Mean([teachers(1)[0], Silent()], "mean_logits", internals=0).answers(BATCH, frozenset({("cls", 2)}))
    assert set(found) == {("cls", 2)}
