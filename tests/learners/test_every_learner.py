"""Every learner on every kind of task: builds, trains, goes on after a stop, and is loaded as it was saved.

A new learner, or a new kind of task, is tested by being entered.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from internal_kd.distillation.augmenting import Augment
from internal_kd.distillation.curricula import CurriculumState, stages_of
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.loop import train
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.optimizing import TrainingParams
from internal_kd.distillation.terms import terms_of
from internal_kd.errors import Interrupted, UserError
from internal_kd.learners.learner import LEARNERS, Form, InputShape, Learner, Network, Shape, parse_learner
from internal_kd.registry import resolve
from internal_kd.tasks.kinds import KINDS
from tiny_models import VOCABULARY, tiny_batch, tiny_classifier

CPU = Hardware(torch.device("cpu"), "fp32")
SIZES: dict[Form, tuple[int, ...]] = {
    "pixels": (8, 8, 1), "sentences": (6,), "embeddings": (5, 6), "tokens": (VOCABULARY,),
}  # fmt: skip
SMALL = {"mlp": {"widths": [8], "dropout": 0.2, "max_norm": 1.0}, "cnn": {"channels": [2], "dense": 8, "dropout": 0.2}}
SMALL["soft_tree"] = {"depth": 3}
SMALL["pair"] = {"of": [{"kind": "mlp", "widths": [8], "dropout": 0.2}, {"kind": "mlp", "widths": [4]}]}
SMALL["text_cnn"] = {"filters": 2, "spans": [2, 3], "dropout": 0.2}
SMALL["adaptive"] = {"widths": [1, 0.5], "depths": [1, 0.5]}
SMALL["distilled_set"] = {"network": {"kind": "mlp", "widths": [8]}, "examples": 4}
TRAINED = [kind for kind in LEARNERS if kind not in ("finished", "specialist", "subnetwork")]


class Drawn:
    """Random examples in one form, of one kind of task."""

    def __init__(self, form: Form, kind: str, count: int = 24) -> None:
        self.form, self.idx, self.lengths = form, np.arange(count), np.full(count, 5)
        drawn = np.random.default_rng(0)
        classes = drawn.integers(0, 3, count)
        self.labels = classes if KINDS[kind].label_type == "int64" else classes.astype(np.float32)
        if KINDS[kind].row == "token":
            self.labels = np.repeat(self.labels[:, None], 5, axis=1)
        self._values = {
            "pixels": drawn.integers(0, 256, (count, *SIZES["pixels"])).astype(np.uint8),
            "sentences": drawn.normal(size=(count, *SIZES["sentences"])).astype(np.float32),
            "embeddings": drawn.normal(size=(count, *SIZES["embeddings"])).astype(np.float16),
        }

    def __len__(self) -> int:
        return len(self.idx)

    def batch(self, positions: Any) -> dict[str, torch.Tensor]:
        labels = {"labels": torch.from_numpy(self.labels[positions]), "idx": torch.from_numpy(self.idx[positions])}
        if self.form == "tokens":
            ids = [tiny_batch([5], seed=int(position)) for position in positions]
            return {name: torch.cat([each[name] for each in ids]) for name in ids[0]} | labels
        return {self.form: torch.from_numpy(self._values[self.form][positions]), **labels}


@dataclass(frozen=True)
class Case:
    """A learner that reads a form, on a kind of task."""

    learner: Learner
    form: Form
    kind: str

    @property
    def outputs(self) -> int:
        return KINDS[self.kind].outputs(("a", "b", "c"))

    def build(self, seed: int = 1) -> Network:
        source = tiny_classifier(labels=self.outputs) if self.learner.kind in ("encoder", "adaptive") else None
        return self.learner.build(source or InputShape(self.form, SIZES[self.form]), self.outputs, seed)

    def weights(self) -> dict[str, float]:
        if "path_log_likelihood" in self.learner.hands_out:
            return {"tree_hard": 1.0, "tree_balance": 0.1}
        return {"hard": 1.0, **({"mutual": 1.0} if "peer_logits" in self.learner.hands_out else {})}

    def train(self, network: Network, scratch: Path, stop_at: int | None = None) -> None:
        shape = Shape(network.layers, network.width, network.heads)
        settings = {"temperature": 1.0}
        terms = terms_of(self.weights(), student=shape, kind=self.kind, outputs=self.outputs, settings=settings)
        loss, steps = DistillationLoss(network, terms, None, CPU), 0
        compute = loss.compute

        def counted(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return compute(*arguments)

        loss.compute = counted  # type: ignore[method-assign]
        examples = Drawn(self.form, self.kind)
        train(
            network, loss, examples=examples, positions=np.arange(len(examples)), seed=3, hardware=CPU,
            curriculum=CurriculumState(stages_of("all", "top", ())), scratch=scratch, log=lambda line: None,
            training=TrainingParams(
                epochs=2, batch_size=8, learning_rate=0.05, optimizer="sgd", augment=Augment(shift=1), warmup_share=0.0
            ),
        )  # fmt: skip


def cases() -> list[Any]:
    found = []
    for name in TRAINED:
        given = {"kind": name, **SMALL.get(name, {})}
        fields = resolve(LEARNERS[name]).model_fields
        ways = [given, *([{**given, "features": "sentences"}] if "features" in fields else [])]
        forms = {form: learner for way in ways for learner in [parse_learner(way)] for form in forms_of(learner)}
        for form, learner in forms.items():
            found += [pytest.param(Case(learner, form, kind), id=f"{name}-{form}-{kind}") for kind in KINDS]
    cheap = parse_learner({"rank": 8, "groups": 2, "shared_keys": 2, "kept_heads": 3})
    found += [pytest.param(Case(cheap, "tokens", "classes"), id="cheap blocks")]
    return found


def forms_of(learner: Learner) -> list[Form]:
    found: list[Form] = []
    for images in (True, False):
        with suppress(UserError):
            found.append(learner.form(images))
    return found


def possible(case: Case) -> bool:
    """Whether planning would take it: a learner's terms may need classes, and a label a token needs a head for it."""
    needs = {need for term in case.weights() for need in OBJECTIVES[term].needs}
    return case.kind == "classes" or not (needs & {"classes"} or KINDS[case.kind].row == "token")


@pytest.mark.parametrize("case", cases())
def test_a_learner_trains_goes_on_after_a_stop_and_is_loaded_as_it_was(case: Case, tmp_path: Path) -> None:
    if not possible(case):
        return
    first, other = case.build(), case.build(seed=2)
    examples = Drawn(case.form, case.kind)
    before = first.read(examples.batch(np.arange(4)))["logits", 0]
    assert before.shape == (4, case.outputs)
    if case.learner.starts_from == "nothing":
        assert not torch.equal(before, other.read(examples.batch(np.arange(4)))["logits", 0])
    case.train(first, tmp_path / "a")
    stopped = case.build()
    with pytest.raises(Interrupted):
        case.train(stopped, tmp_path / "b", stop_at=4)
    going_on = case.build()
    case.train(going_on, tmp_path / "b")
    for name, weight in first.module.state_dict().items():
        assert torch.equal(weight, going_on.module.state_dict()[name]), name
    first.module.eval()
    first.save(tmp_path / "model")
    loaded = case.learner.load(tmp_path / "model", case.outputs)
    batch = examples.batch(np.arange(4))
    assert torch.equal(loaded.read(batch)["logits", 0], first.read(batch)["logits", 0])
    assert not torch.equal(before, first.read(batch)["logits", 0])
