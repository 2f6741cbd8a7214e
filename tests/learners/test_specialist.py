"""Specialists: which classes they have, what their dustbin class is, and how they answer with their generalist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from test_every_learner import Drawn

from internal_kd.distillation.specialists import combined
from internal_kd.errors import UserError
from internal_kd.learners.learner import InputShape, parse_learner
from internal_kd.learners.specialist import HELD_OUT, SpecialistNetwork, class_subsets

CLASSES = 6
SUBSET = [1, 4]


def specialist(**changes: Any) -> Any:
    return parse_learner({"kind": "specialist", "of": "generalist", "clusters": 2, "size": 2, **changes})


def network(subset: list[int] = SUBSET) -> SpecialistNetwork:
    generalist = parse_learner({"kind": "mlp", "widths": [5]}).build(InputShape("pixels", (8, 8, 1)), CLASSES, 1)
    return SpecialistNetwork(generalist, subset)


def logits_of(read: SpecialistNetwork, training: bool) -> torch.Tensor:
    read.module.train(training)
    return read.read(Drawn("pixels", "classes").batch(np.arange(8)))["logits", 0]


def test_classes_that_are_confused_are_grouped() -> None:
    drawn = np.random.default_rng(0)
    groups, gold = np.arange(CLASSES) // 2, drawn.integers(0, CLASSES, 400)
    confused = (groups == groups[gold][:, None]) * drawn.dirichlet([1.0] * CLASSES, 400) + 1e-3
    subsets = class_subsets(confused / confused.sum(1, keepdims=True), 3, 2)
    assert sorted(map(tuple, subsets)) == [(0, 1), (2, 3), (4, 5)]
    overlapping = class_subsets(confused / confused.sum(1, keepdims=True), 3, 4)
    assert overlapping.shape == (3, 4)
    assert all(set(own) <= set(more) for own, more in zip(subsets, overlapping, strict=True))


def test_the_loss_is_that_of_a_net_with_one_dustbin_class_but_for_a_constant() -> None:
    found = network()
    raw = found._generalist.read(Drawn("pixels", "classes").batch(np.arange(8)))["logits", 0]
    rest = [number for number in range(CLASSES) if number not in SUBSET]
    with_dustbin = torch.cat([raw[:, SUBSET], raw[:, rest].logsumexp(-1, keepdim=True)], dim=-1)
    logits = logits_of(found, training=True)
    for gold, column, constant in ((1, 0, 0.0), (4, 1, 0.0), (0, 2, np.log(len(rest))), (5, 2, np.log(len(rest)))):
        ours = F.cross_entropy(logits, torch.full((8,), gold))
        theirs = F.cross_entropy(with_dustbin, torch.full((8,), column))
        assert ours.item() == pytest.approx(theirs.item() + constant, abs=1e-5)


def test_it_is_trained_on_its_classes_and_as_many_others_and_the_dustbin_is_raised_by_the_factor() -> None:
    found, labels = network(), np.repeat(np.arange(CLASSES), 10)
    positions = np.arange(100, 100 + len(labels))
    chosen = found.choose(positions, labels, seed=1)
    of_them = labels[chosen - 100]
    assert np.isin(of_them, SUBSET).sum() == 20 and len(chosen) == 40 and len(set(chosen)) == 40
    # Two of six classes are half of what it sees: odds of 1 instead of 1 to 2.
    assert found.factor == pytest.approx(2.0)
    raised = logits_of(found, training=False) - logits_of(found, training=True)
    assert torch.allclose(raised[:, 0], torch.tensor(2.0).log()) and raised[:, SUBSET].abs().max() == 0
    assert not np.array_equal(chosen, found.choose(positions, labels, seed=2))
    with pytest.raises(UserError, match="specialist"):
        found.choose(positions[:5], labels[:5], seed=1)


def saved_generalist(folder: Path, logits: np.ndarray) -> Any:
    """A generalist's run, as far as a specialist reads it, with its answers about the examples held out."""
    generalist = parse_learner({"kind": "mlp", "widths": [5]}).build(InputShape("pixels", (8, 8, 1)), CLASSES, 1)
    generalist.save(folder / "model")
    answers = {f"logit_{number}": column for number, column in enumerate(logits.T)}
    pd.DataFrame({"idx": range(len(logits)), "label": 0, **answers}).to_parquet(folder / HELD_OUT)
    return generalist


def test_what_a_generalist_that_is_sure_takes_for_second_best_groups_the_classes(tmp_path: Path) -> None:
    gold = np.arange(60) % CLASSES
    logits = np.random.default_rng(0).normal(size=(60, CLASSES)) * 0.1
    logits[range(60), gold] += 14
    logits[range(60), gold ^ 1] += 7  # 0 and 1 are alike, 2 and 3, 4 and 5
    saved_generalist(tmp_path, logits)
    groups = [specialist(clusters=3, number=number).build(tmp_path, CLASSES, 1).subset for number in (1, 2, 3)]
    assert sorted(groups) == [(0, 1), (2, 3), (4, 5)]


def test_it_starts_as_its_generalist_and_opens_as_it_was_saved(tmp_path: Path) -> None:
    generalist = saved_generalist(tmp_path, np.random.default_rng(0).normal(size=(30, CLASSES)))
    built = specialist(number=2).build(tmp_path, CLASSES, 1)
    for name, weight in generalist.module.state_dict().items():
        assert torch.equal(weight, built.module.state_dict()[name])
    built.factor = 3.0
    built.save(tmp_path / "saved")
    opened = specialist(number=2).load(tmp_path / "saved", CLASSES)
    assert opened.subset == built.subset
    assert torch.equal(logits_of(opened, training=False), logits_of(built, training=False))
    with pytest.raises(UserError, match="size"):
        specialist(size=CLASSES).build(tmp_path, CLASSES, 1)
    with pytest.raises(UserError, match="hold_out"):
        specialist().build(tmp_path / "model", CLASSES, 1)


@pytest.mark.parametrize("changes", [{"size": 1}, {"number": 3}, {"clusters": 0}])
def test_a_cluster_of_one_class_and_one_that_does_not_exist_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        specialist(**changes)


# Answers together


def answers(seed: int = 0, examples: int = 7) -> tuple[torch.Tensor, list[list[int] | None]]:
    """Of a generalist and three specialists, whose logits outside of their subset are equal."""
    subsets: list[list[int] | None] = [None, [0, 1, 2], [2, 3], [4, 5]]
    logits = 2 * torch.randn(4, examples, CLASSES, generator=torch.Generator().manual_seed(seed))
    for member, subset in zip(logits[1:], subsets[1:], strict=True):
        rest = [number for number in range(CLASSES) if number not in (subset or ())]
        member[:, rest] = member[:, rest[:1]]
    return logits, subsets


def test_the_combination_minimises_the_papers_objective() -> None:
    logits, subsets = answers()
    z = combined(logits, subsets).double().requires_grad_()
    q, p = z.softmax(-1), logits.double().softmax(-1)
    loss = (p[0] * (p[0] / q).log()).sum()
    top = p[0].argmax(-1)
    for member, subset in zip(p[1:], subsets[1:], strict=True):
        rest = [number for number in range(CLASSES) if number not in subset]
        of_m, of_q = ([side[:, subset], side[:, rest].sum(-1, keepdim=True)] for side in (member, q))
        divergence = sum((a * (a / b).log()).sum(-1) for a, b in zip(of_m, of_q, strict=True))
        loss = loss + divergence[torch.isin(top, torch.tensor(subset))].sum()
    (gradient,) = torch.autograd.grad(loss, z)
    assert gradient.abs().max() < 1e-4
    assert torch.allclose(q.sum(-1), torch.ones(7, dtype=torch.float64))


def test_without_an_active_specialist_the_generalist_answers() -> None:
    logits, _ = answers()
    logits[0, :, 5] += 20
    found = combined(logits, [None, [0, 1], [1, 2], [2, 3]])
    assert torch.allclose(found.exp(), logits[0].softmax(-1), atol=1e-6)


def test_specialists_of_all_classes_would_give_the_mean() -> None:
    logits, _ = answers()
    found = combined(logits, [None, *[list(range(CLASSES))] * 3])
    assert torch.allclose(found.exp(), logits.softmax(-1).mean(0), atol=1e-6)
