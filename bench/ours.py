"""internal_kd itself: what ``internal-kd train-student`` calls, on the benchmark's models and examples.

The training is `internal_kd.distillation.trainer.train`, untouched. Two things are put in from outside: the order of
batches, which is the benchmark's, and for a variant the one part of it that is to be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertIntermediate

from bench.contestants import STAGES, Contestant
from bench.pace import Pace, device
from bench.workload import Workload, read_batches, read_workload
from internal_kd.data import batches as batches_module
from internal_kd.data.batches import LengthBuckets
from internal_kd.data.tokens import TokenStore
from internal_kd.distillation import trainer
from internal_kd.distillation.curricula import Climb, Stage, stages_of
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.loss_terms import DistillationLoss, LossTerms
from internal_kd.distillation.teacher_outputs import TeacherOutputsReader, TeacherOutputsWriter
from internal_kd.distillation.teachers import ComputedTeacher, RecordedTeacher, Wanted
from internal_kd.models import dropout as dropout_module
from internal_kd.models.classifiers import freeze_teacher, load_classifier
from internal_kd.params.training import TrainingParams

if TYPE_CHECKING:
    from internal_kd.distillation.loss_terms import Teacher

_FOREVER = 10**5
WEIGHTS = {"soft": 1.0, "attention_kl": 1.0, "cls_cosine": 1.0}


def run(contestant: Contestant, folder: Path, pace: Pace) -> None:
    """Train, or record the teacher, until the pace ends it."""
    workload, hardware = read_workload(folder), Hardware(device(), contestant.precision)
    split = TokenStore(folder / "tokens").split("train")
    epochs = _epochs(contestant, workload, read_batches(folder, contestant.batches))
    if contestant.name.startswith("recording"):
        record(workload, folder, hardware, folder / "recorded_again", pace)
        return
    model = load_classifier(folder / "student", 2)
    hardware.place(model)
    if contestant.name.startswith("finetuned"):
        loss = _PacedLoss(pace, model, None, {"hard": 1.0}, (), 1.0, hardware)
    else:
        teacher = _teacher(contestant, folder, hardware)
        loss = _PacedLoss(pace, model, teacher, WEIGHTS, workload.matched, 1.0, hardware)
    everything = stages_of("all", "top", workload.student_layers)
    with torch.no_grad():
        common = split.batch(read_batches(folder, "bucketed")[0])
        pace.first_loss(float(DistillationLoss.compute(loss, common, everything[0]).total))
    climb = Climb(everything, 1, 0.0)
    if contestant.laps > 1:
        stages = stages_of("progressive", "top", workload.student_layers)
        assert len(stages) == STAGES
        # The last stage serves as the warm-up: all of the student is computed in it.
        climb = _Circle(stages, 1, 0.0, position=len(stages) - 1)
    with _missing(contestant.variant), _replaced(batches_module, "LengthBuckets", partial(_Given, epochs)):
        trainer.train(
            model,
            loss,
            split=split,
            positions=np.arange(len(split)),
            climb=climb,
            training=TrainingParams(epochs=_FOREVER, batch_size=workload.batch_size),
            seed=0,
            hardware=hardware,
            scratch=folder / "scratch" / contestant.name,
            checkpoint_minutes=1e6,
            scorer=NoScorer(),
            report=lambda progress: None,
        )


def record(workload: Workload, folder: Path, hardware: Hardware, into: Path, pace: Pace | None = None) -> None:
    """Record the teacher on the examples of all batches, as ``record_teacher`` does; with a pace, again and again."""
    split = TokenStore(folder / "tokens").split("train")
    model = freeze_teacher(load_classifier(folder / "teacher", 2))
    hardware.place(model)
    teacher = ComputedTeacher(model, hardware)
    batches = read_batches(folder, "bucketed")
    if pace is None:  # for whoever reads it, whichever way the batches are cut
        batches = batches + read_batches(folder, "shuffled")
    chosen = np.unique(np.concatenate(batches))
    places = {int(position): row for row, position in enumerate(chosen)}
    into.mkdir()
    layers = workload.matched
    writer = TeacherOutputsWriter(
        into, np.asarray(split.idx[chosen]), np.asarray(split.lengths[chosen]), classes=2, width=workload.width,
        heads=workload.heads, cls_layers=layers, attention_layers=layers,
    )  # fmt: skip
    while True:
        for positions in batches:
            batch = split.batch(positions)
            if pace is not None:
                pace.tick(batch["input_ids"].shape)
            rows = np.array([places[position] for position in positions])
            writer.write(rows, teacher.outputs(batch, Wanted(True, layers, layers)))
        writer.flush()
        if pace is None:
            return


class _PacedLoss(DistillationLoss):
    """The loss, which tells the pace when a step begins."""

    def __init__(self, pace: Pace, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._pace = pace

    def compute(self, batch: dict[str, Tensor], stage: Stage) -> LossTerms:
        """Return the loss of a batch."""
        self._pace.tick(batch["input_ids"].shape)
        return super().compute(batch, stage)


class _Given(LengthBuckets):
    """The benchmark's batches in place of a random order; each epoch the next list."""

    def __init__(self, epochs: list[list[list[int]]], lengths: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__(lengths, batch_size, seed)
        self._epochs = epochs

    def __len__(self) -> int:
        return len(self._epochs[0])

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._epochs[self._epoch % len(self._epochs)]


class _Circle(Climb):
    """A curriculum that begins again after its last stage."""

    def end_epoch(self, mean_cosine: float | None) -> bool:
        """Move up after every epoch."""
        self.position = (self.position + 1) % len(self.stages)
        return False


class NoScorer:
    """Scores nothing: there is no dev set here."""

    metrics: tuple[str, ...] = ()

    def scores(self) -> dict[str, float | None]:
        """Return no score."""
        return {}


def _epochs(contestant: Contestant, workload: Workload, batches: list[list[int]]) -> list[list[list[int]]]:
    """One epoch of everything; for a curriculum, whose stages are epochs, one of a warm-up and then seven a round."""
    if contestant.laps == 1:
        return [batches]
    steps, dealt = workload.steps, batches[workload.warm_up :]
    rounds = [dealt[at * steps : (at + 1) * steps] for at in range(workload.rounds)]
    return [rounds[0], *(part for part in rounds for _ in range(contestant.laps)), rounds[0]]


def _teacher(contestant: Contestant, folder: Path, hardware: Hardware) -> Teacher:
    if contestant.variant == "recomputed":
        model = freeze_teacher(load_classifier(folder / "teacher", 2))
        hardware.place(model)
        return ComputedTeacher(model, hardware)
    return RecordedTeacher(TeacherOutputsReader(folder / "recorded"), None, hardware)


def _missing(variant: str) -> AbstractContextManager[None]:
    """Leave out the part of a training that a variant is named after."""
    if variant == "torch_dropout":
        return _replaced(dropout_module, "dropout", nn.functional.dropout)
    if variant == "whole_vocabulary":
        return _replaced(trainer, "training_used_rows", lambda model, ids: nullcontext())
    if variant == "compiled":
        return _compiled()
    if variant == "untruncated":
        return _replaced(Stage, "highest_layer", None)
    return nullcontext()


@contextmanager
def _compiled() -> Iterator[None]:
    """Compile the part of a layer that attention and dropout do not cut in two: linear, GELU, linear."""
    with _replaced(BertIntermediate, "forward", torch.compile(BertIntermediate.forward, dynamic=True)):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any] | None) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
