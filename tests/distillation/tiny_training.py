"""A tiny training set, student and teacher, and their training: what the tests of this folder share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from internal_kd.distillation.answers import Live
from internal_kd.distillation.augmenting import Augment
from internal_kd.distillation.curricula import CurriculumState, stages_of
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.loop import TrainingResult, train
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.terms import Term, compared_layers, terms_of
from internal_kd.learners.capture import network_of
from internal_kd.learners.learner import OF_PAIRS, OF_TREES, Network, Shape
from tiny_models import PAD, tiny_classifier

# The others read what trees alone hand out; tests/learners/test_every_learner.py trains them.
OF_ENCODERS = [name for name in OBJECTIVES if not (OF_TREES | OF_PAIRS) & {*OBJECTIVES[name].reads}]

CPU = Hardware(torch.device("cpu"), "fp32")
INTERNAL = {"soft": 1.0, "attention_kl": 1.0, "cls_cosine": 1.0}
MAP = ((1, 2), (2, 4))


class TinyExamples:
    """Random examples of two classes, as an encoded split gives them; ids are not positions."""

    def __init__(self, count: int = 40, *, classes: int = 2, unlabelled: int = 0, shift: int = 0) -> None:
        generator = torch.Generator().manual_seed(1 + shift)
        self.idx = 1000 + 3 * np.arange(count)
        self.lengths = np.random.default_rng(0).integers(3, 12, count)
        self._ids = torch.randint(2, 50, (count, 12), generator=generator)
        self.labels = (self._ids[:, 0] % classes).numpy()
        self.labels[: unlabelled or 0] = -1

    def __len__(self) -> int:
        return len(self.idx)

    def vocabulary(self, positions: Any) -> np.ndarray:
        return np.unique(self.batch(positions)["input_ids"])

    def batch(self, positions: Any) -> dict[str, torch.Tensor]:
        mask = torch.arange(12) < torch.from_numpy(self.lengths[positions])[:, None]
        longest = int(self.lengths[positions].max())
        ids = torch.where(mask, self._ids[positions], PAD)
        made = {"input_ids": ids[:, :longest], "attention_mask": mask.long()[:, :longest]}
        labels, idx = torch.from_numpy(self.labels[positions]), torch.from_numpy(self.idx[positions])
        return {**made, "labels": labels, "idx": idx}


class Scorer:
    metrics = ("accuracy",)

    def scores(self) -> dict[str, float | None]:
        return {"accuracy": 0.5}


def shape_of(network: Network) -> Shape:
    return Shape(layers=network.layers, width=network.width, heads=network.heads)


def tiny_teacher(**settings: Any) -> Network:
    return network_of(tiny_classifier(**{"layers": 4, "seed": 6, **settings}))


def tiny_student(**settings: Any) -> Network:
    return network_of(tiny_classifier(**{"layers": 2, "seed": 5, **settings}))


def tiny_terms(weights: dict[str, Any], student: Network, teacher: Network, **given: Any) -> tuple[Term, ...]:
    settings = {"layer_map": MAP, "settings": {"temperature": 2.0}, "kind": "classes", "outputs": 2, **given}
    return terms_of(weights, student=shape_of(student), teacher=shape_of(teacher), **settings)


def settings(**changes: Any) -> Any:
    values = {
        "epochs": 4, "steps_per_epoch": None, "batch_size": 8, "learning_rate": 1e-3,
        "optimizer": "adamw", "momentum": 0.9,
        "warmup_share": 0.1, "weight_decay": 0.01, "max_gradient_norm": 1.0, "augment": Augment(),
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def run_training(
    student: Network,
    terms: tuple[Term, ...],
    teacher: Any,
    *,
    curriculum: Any = "all",
    classification: str = "top",
    examples: Any = None,
    training: Any = None,
    epochs_per_layer: int = 1,
    **given: Any,
) -> TrainingResult:
    """Train with a network or other answers as the teacher; ``given`` goes to ``train``."""
    answers = Live(teacher, CPU) if isinstance(teacher, Network) else teacher
    examples = examples or TinyExamples()
    loss = given.pop("loss", None) or DistillationLoss(student, terms, answers, CPU, seed=3)
    stages = stages_of(curriculum, classification, compared_layers(terms), [term.name for term in terms])
    defaults = {"positions": np.arange(len(examples)), "seed": 3, "hardware": CPU, "scorer": Scorer()}
    return train(
        student,
        loss,
        examples=examples,
        curriculum=CurriculumState(stages, epochs_per_layer),
        training=training or settings(),
        **{**defaults, **given},
    )
