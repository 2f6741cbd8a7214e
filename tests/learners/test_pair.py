"""Two learners that teach each other: what one of them gets from the other, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_every_learner import SIZES, Case, Drawn

from internal_kd.errors import UserError
from internal_kd.learners.learner import InputShape, Wanted, parse_learner
from internal_kd.learners.pair import PairNetwork
from tiny_models import tiny_batch, tiny_classifier

MLP: dict[str, Any] = {"kind": "mlp", "widths": [8], "dropout": 0.2}
BOTH: Wanted = frozenset({("logits", 0), ("peer_logits", 0)})


def case_of(*learners: dict[str, Any]) -> Case:
    return Case(parse_learner({"kind": "pair", "of": list(learners)}), "pixels", "classes")


def test_two_that_do_not_teach_each_other_are_two_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Case, "weights", lambda self: {"hard": 1.0})
    pair, alone = case_of(MLP, {**MLP, "widths": [4]}), Case(parse_learner(MLP), "pixels", "classes")
    two, one = pair.build(), alone.build()
    pair.train(two, tmp_path / "pair")
    alone.train(one, tmp_path / "alone")
    for name, weight in one.module.state_dict().items():
        assert torch.equal(weight, two.module.state_dict()[f"0.{name}"]), name


def test_two_of_a_kind_begin_and_end_with_different_weights(tmp_path: Path) -> None:
    pair = case_of(MLP, MLP)
    network = pair.build()
    pair.train(network, tmp_path)
    first, second = (part.state_dict() for part in network.parts)
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_the_second_learns_from_what_the_first_has_just_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = case_of({"kind": "mlp", "widths": [8]}, MLP)
    network, given = pair.build(), []
    read = PairNetwork.read

    def noted(self: PairNetwork, batch: Any, wanted: Wanted = BOTH) -> Any:
        found = read(self, batch, wanted)
        if self.module.training:
            given.append((self.turn, batch, found["peer_logits", 0]))
        return found

    monkeypatch.setattr(PairNetwork, "read", noted)
    pair.train(network, tmp_path)
    assert [turn for turn, _, _ in given[:4]] == [0, 1, 0, 1]
    turn, batch, answers = given[-1]
    # After its last step the first has not changed any more.
    assert turn == 1 and torch.equal(answers, network.first.read(batch)["logits", 0])
    assert not answers.requires_grad


def test_encoders_of_two_depths_teach_each_other_and_open_alone(tmp_path: Path) -> None:
    learner = parse_learner({"kind": "pair", "of": [{"layers": 2}, {"layers": 1, "start": "random"}]})
    network, batch = learner.build(tiny_classifier(), 2, seed=1), tiny_batch([5, 3])
    assert network.layers == 2
    found = network.read(batch, BOTH)
    assert found["logits", 0].requires_grad and not found["peer_logits", 0].requires_grad
    network.save(tmp_path)
    for folder, expected in ((tmp_path, "logits"), (tmp_path / "peer", "peer_logits")):
        opened = learner.load(folder, 2)
        assert torch.equal(opened.read(batch)["logits", 0], found[expected, 0])


@pytest.mark.parametrize(
    ("learners", "named"),
    [
        ([MLP, {**MLP, "features": "sentences"}], "sentences"),
        ([MLP, {"layers": 2}], "nothing"),
        ([{"layers": 2}, {"layers": 2, "start": "teacher"}], "teacher"),
        ([MLP, {"kind": "soft_tree"}], "soft_tree"),
        ([MLP, {"kind": "finished", "folder": "models/ours"}], "finished"),
        ([MLP, {"kind": "pair", "of": [MLP, MLP]}], "pair"),
        ([MLP, {"kind": "cnn"}], "cnn"),
    ],
)
def test_two_that_cannot_teach_each_other_are_refused(learners: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_learner({"kind": "pair", "of": learners}).form(images=False)


@pytest.mark.parametrize("of", [[MLP], [MLP, MLP, MLP], [MLP, {"kind": "mlp", "width": 3}]])
def test_a_pair_is_two_complete_descriptions(of: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"learner\.of"):
        parse_learner({"kind": "pair", "of": of})


def test_the_first_is_what_it_would_be_alone() -> None:
    source = InputShape("pixels", SIZES["pixels"])
    pair, alone = case_of(MLP, MLP).build(), parse_learner(MLP).build(source, 3, 1)
    batch = Drawn("pixels", "classes").batch([0, 1])
    pair.module.eval()
    assert torch.equal(pair.read(batch)["logits", 0], alone.read(batch)["logits", 0])
    assert pair.count_parameters() == alone.count_parameters()
