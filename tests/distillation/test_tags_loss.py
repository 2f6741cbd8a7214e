"""Objectives on tags: rows are words, so a batch of sentences is a batch of words, alone, cut up or recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import CPU, MAP
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification

from internal_kd.distillation.answers import Live, Mean, Recorded
from internal_kd.distillation.batches import Part, parts_of
from internal_kd.distillation.curricula import stages_of
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.distillation.predicting import predict_logits
from internal_kd.distillation.record_network import record_network
from internal_kd.distillation.recording import RecordingReader
from internal_kd.distillation.terms import terms_of
from internal_kd.learners.capture import network_of
from internal_kd.tasks.tags import window_id, word_id
from tiny_models import PAD, tiny_config

CLASSES = 5
WEIGHTS = {"soft": 1.0, "hard": 1.0, "attention_kl": 1.0, "hidden_mse": 1.0, "cls_cosine": 1.0}
(ALL,) = stages_of("all", "top", (1, 2))


class Sentences:
    """Random windows of sentences, some words without a label, as the inputs of a task of tags give them.

    The fourth has no row: it holds nothing but further pieces of one long word.
    """

    def __init__(self, count: int = 12) -> None:
        rng = np.random.default_rng(3)
        self.idx = np.array([window_id(10 + 2 * (n // 2), n % 2) for n in range(count)])
        self.lengths = rng.integers(4, 12, count)
        self._ids = rng.integers(2, 50, (count, 12))
        words = np.cumsum(rng.random((count, 12)) < 0.7, axis=1) + 50 * (np.arange(count) % 2)[:, None]
        first = np.diff(words, axis=1, prepend=-1) > 0
        inside = (np.arange(count) != 3)[:, None] & (np.arange(12) > 0) & (np.arange(12) < self.lengths[:, None] - 1)
        self._rows = np.where(first & inside, word_id(self.idx[:, None], words), -1)
        self._labels = np.where(self._rows >= 0, rng.integers(-1, CLASSES, (count, 12)), -1)
        self.labels = self._labels[self._rows >= 0]

    def __len__(self) -> int:
        return len(self.idx)

    def rows_of(self, positions: Any) -> np.ndarray:
        return np.concatenate([self._rows[p][self._rows[p] >= 0] for p in positions])

    def batch(self, positions: Any) -> dict[str, torch.Tensor]:
        n = int(self.lengths[positions].max())
        mask = np.arange(n) < self.lengths[positions][:, None]
        made = {
            "input_ids": np.where(mask, self._ids[positions, :n], PAD),
            "attention_mask": mask.astype(np.int64),
            "labels": self._labels[positions, :n],
            "rows": self._rows[positions, :n],
            "idx": self.idx[positions],
        }
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in made.items()}


def tagger(layers: int, seed: int) -> Any:
    torch.manual_seed(seed)
    return network_of(AutoModelForTokenClassification.from_config(tiny_config(layers=layers, labels=CLASSES)).eval())


def loss_of(student: Any, answers: Any, weights: dict[str, float]) -> DistillationLoss:
    terms = terms_of(weights, layer_map=MAP, kind="tags", outputs=CLASSES, settings={"temperature": 2.0})
    return DistillationLoss(student, terms, answers, CPU)


def test_hard_and_soft_labels_count_each_word_once() -> None:
    examples, student, teacher = Sentences(), tagger(2, 1), tagger(4, 2)
    batch = examples.batch(np.arange(6))
    (part,) = parts_of(batch)
    found = loss_of(student, Live(teacher, CPU), {"hard": 1.0, "soft": 1.0}).compute(part, ALL)
    rows = batch["rows"] >= 0
    logits = student.module(batch["input_ids"], batch["attention_mask"]).logits[rows]
    of_teacher = teacher.module(batch["input_ids"], batch["attention_mask"]).logits[rows]
    labels = batch["labels"][rows]
    expected = F.cross_entropy(logits[labels >= 0], labels[labels >= 0])
    assert torch.allclose(found.output["hard"], expected, atol=1e-6)
    assert found.counts == {"hard": int((labels >= 0).sum()), "soft": int(rows.sum())}
    kl = F.kl_div((logits / 2).log_softmax(-1), (of_teacher / 2).softmax(-1), reduction="batchmean")
    assert torch.allclose(found.output["soft"], 4 * kl, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_micro_batches_give_the_loss_and_the_gradients_of_the_batch(size: int) -> None:
    examples, student, teacher = Sentences(), tagger(2, 1), tagger(4, 2)
    loss = loss_of(student, Live(teacher, CPU), WEIGHTS)

    def computed(cut: int | None) -> tuple[float, torch.Tensor]:
        student.module.zero_grad()
        totals = [loss.compute(part, ALL).total for part in parts_of(examples.batch(np.arange(12)), cut)]
        sum(totals).backward()
        gradients = [weight.grad.flatten() for weight in student.module.parameters() if weight.grad is not None]
        return sum(total.item() for total in totals), torch.cat(gradients)

    (total, gradient), (expected, expected_gradient) = computed(size), computed(None)
    assert total == pytest.approx(expected, rel=1e-5) and torch.allclose(gradient, expected_gradient, atol=1e-5)


def test_a_window_without_a_word_contributes_nothing() -> None:
    examples, student = Sentences(), tagger(2, 1)
    loss = loss_of(student, Live(tagger(4, 2), CPU), {"hard": 1.0, "soft": 1.0, "confidence_penalty": 1.0})
    found = loss.compute(Part(examples.batch(np.array([3]))), ALL)
    assert found.total.item() == 0.0 and not found.total.requires_grad and found.counts == {}


def test_recorded_answers_are_those_of_the_teacher_for_any_batch(tmp_path: Path) -> None:
    examples, teacher = Sentences(), tagger(4, 2)
    wanted = frozenset({("logits", 0), ("hidden", 4), ("attention", 2)})
    record_network(teacher, examples, np.arange(12), wanted, CLASSES, tmp_path, CPU)
    reader = RecordingReader(tmp_path)
    assert sorted(reader.row_ids.tolist()) == sorted(examples.rows_of(np.arange(12)).tolist())
    batch = examples.batch(np.array([7, 0, 3]))
    recorded, live = Recorded(reader, None, CPU).answers(batch, wanted), Live(teacher, CPU).answers(batch, wanted)
    assert torch.allclose(recorded["logits", 0], live["logits", 0], atol=1e-5)
    real = batch["attention_mask"].bool()
    assert torch.allclose(recorded["hidden", 4][real].float(), live["hidden", 4][real], atol=2e-2)
    both = Mean([Recorded(reader, None, CPU)] * 2, "mean_probabilities").answers(batch, frozenset({("logits", 0)}))
    assert torch.allclose(both["logits", 0], live["logits", 0].log_softmax(-1), atol=1e-5)


def test_predictions_are_in_the_order_of_the_examples_words() -> None:
    examples, student = Sentences(), tagger(2, 1)
    every = predict_logits(student, examples, CPU, batch_size=5)
    alone = np.concatenate([predict_logits(student, examples, CPU, positions=np.array([p])) for p in range(12)])
    assert every.shape == (len(examples.labels), CLASSES) and np.allclose(every, alone, atol=1e-5)
