"""Answers in all their forms: of several teachers, of a file, of a teacher with a tokenizer of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import CPU, TinyExamples, tiny_teacher

from internal_kd.distillation.answers import Answers, FromArrays, Live, Mean, mean_answer
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


def test_a_teacher_with_its_own_tokenizer_reads_its_own_tokens_and_hands_out_logits_only() -> None:
    own = TinyExamples(6, shift=5)
    live = Live(tiny_teacher(), CPU, own)
    expected = Live(tiny_teacher(), CPU).answers(own.batch(np.array([3, 0, 4])), LOGITS)["logits", 0]
    assert torch.equal(logits(live), expected)
    with pytest.raises(UserError, match="attention of layer 2"):
        live.answers(BATCH, frozenset({("attention", 2)}))
    with pytest.raises(UserError, match="1018"):
        live.answers(TinyExamples(7).batch(np.array([6])), LOGITS)


# A file


def test_answers_are_found_by_id_in_whatever_order_they_are_given() -> None:
    order = np.array([4, 2, 0, 5, 1, 3])
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert logits(FromArrays(EXAMPLES.idx[order], values[order], CPU)).tolist() == values[[3, 0, 4]].tolist()


def test_probabilities_come_back_as_they_were_certain_ones_too() -> None:
    probabilities = np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])
    answers = FromArrays(BATCH["idx"].numpy(), probabilities, CPU, probabilities=True)
    assert torch.isfinite(logits(answers)).all()
    torch.testing.assert_close(logits(answers).softmax(-1), torch.from_numpy(probabilities).float())


def test_what_a_file_covers_is_known_and_what_it_does_not_is_named() -> None:
    answers = FromArrays(EXAMPLES.idx[:4], np.zeros((4, 2)), CPU)
    assert answers.covers(EXAMPLES.idx).tolist() == [True] * 4 + [False] * 2
    assert not FromArrays(EXAMPLES.idx[:0], np.zeros((0, 2)), CPU).covers(EXAMPLES.idx).any()
    with pytest.raises(UserError, match=str(EXAMPLES.idx[4])):
        logits(answers)


@pytest.mark.parametrize(
    ("ids", "values", "word"),
    [
        ([1, 1], [[0.0], [0.0]], "twice"),
        ([1, 2], [[0.0], [np.nan]], "example 2"),
        ([1, 2], [[0.0]], "2 ids"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(ids: list[int], values: list[list[float]], word: str) -> None:
    with pytest.raises(UserError, match=word):
        FromArrays(np.array(ids), np.array(values), CPU)


def test_a_file_hands_out_logits_only() -> None:
    with pytest.raises(UserError, match="cls of layer 3"):
        FromArrays(EXAMPLES.idx, np.zeros((6, 2)), CPU).answers(BATCH, frozenset({("cls", 3)}))
