"""internal_kd itself: what ``internal-kd make`` calls for a run, on the benchmark's models and examples.

The training is `internal_kd.distillation.loop.train`, untouched. Two things are put in from outside: the order of
batches, which is the benchmark's, and for a variant a replacement of the part that it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertIntermediate

from bench.contestants import INTERNAL, Contestant
from bench.objectives import names, stages_of_all, terms_for
from bench.pace import Pace, device
from bench.workload import Workload, read_batches, read_workload
from internal_kd.data.inputs import EncodedTask
from internal_kd.distillation import loop
from internal_kd.distillation.answers import Answers, Live, Recorded
from internal_kd.distillation.batches import LengthBuckets, Part
from internal_kd.distillation.curricula import CurriculumState, Stage, stages_of
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.loss import DistillationLoss, LossTerms
from internal_kd.distillation.optimizing import TrainingParams
from internal_kd.distillation.record_network import record_network, sizes_of
from internal_kd.distillation.recording import RecordingReader, RecordingWriter
from internal_kd.distillation.terms import asked_of_teacher, compared_layers
from internal_kd.learners import quick
from internal_kd.learners.capture import EncoderNetwork, network_of
from internal_kd.learners.learner import LOGITS, Network
from internal_kd.learners.weights import load_classifier

_FOREVER = 10**5


def run(contestant: Contestant, folder: Path, pace: Pace) -> None:
    """Train, or record the teacher, until the pace ends it."""
    workload, hardware = read_workload(folder), Hardware(device(), contestant.precision)
    if contestant.variant == "recording":
        _record_again(workload, folder, hardware, pace)
        return
    train(contestant, workload, folder, hardware, pace)


def train(contestant: Contestant, workload: Workload, folder: Path, hardware: Hardware, pace: Pace) -> None:
    """Train the student as the product does, until the pace ends it."""
    examples = EncodedTask(folder / "inputs").split("train")
    network = _load(folder / "student", workload, hardware)
    terms = terms_for(workload, contestant.terms or names())
    answers = _answers(contestant, folder, workload, hardware) if asked_of_teacher(terms) else None
    loss = _PacedLoss(pace, network, terms, answers, hardware)
    with torch.no_grad():
        common = Part(examples.batch(read_batches(folder, "bucketed")[0])).to(hardware.device)
        everything = Stage("all", compared_layers(terms), output_terms=True)
        pace.first_loss(float(DistillationLoss.compute(loss, common, everything).total))
    curriculum = _curriculum(contestant, workload)
    if len(curriculum.stages) > 1:
        pace.in_laps(len(curriculum.stages))
    epochs = _epochs(len(curriculum.stages), workload, read_batches(folder, contestant.batches))
    with _without(contestant.variant), _replaced(loop, "LengthBuckets", partial(_Given, epochs)):
        loop.train(
            network,
            loss,
            examples=examples,
            positions=np.arange(len(examples)),
            curriculum=curriculum,
            training=TrainingParams(epochs=_FOREVER, batch_size=workload.batch_size),
            seed=0,
            hardware=hardware,
            log=lambda line: None,
        )


def record(workload: Workload, folder: Path, hardware: Hardware, terms: tuple[str, ...]) -> None:
    """Record what some objectives read of the teacher on the examples of all batches, however these are cut."""
    network = _load(folder / "teacher", workload, hardware).freeze()
    examples = EncodedTask(folder / "inputs").split("train")
    positions = np.unique(np.concatenate([*read_batches(folder, "bucketed"), *read_batches(folder, "shuffled")]))
    (folder / "recorded").mkdir()
    wanted = asked_of_teacher(terms_for(workload, terms))
    record_network(network, examples, positions, wanted, workload.classes, folder / "recorded", hardware)


def _record_again(workload: Workload, folder: Path, hardware: Hardware, pace: Pace) -> None:
    """Record for row 3.3, batch by batch as `record_network` does, but in the benchmark's order; again and again."""
    network = _load(folder / "teacher", workload, hardware)
    examples, batches = EncodedTask(folder / "inputs").split("train"), read_batches(folder, "bucketed")
    chosen = np.unique(np.concatenate(batches))
    into = folder / "recorded_again"
    into.mkdir()
    wanted, sizes = asked_of_teacher(terms_for(workload, INTERNAL)), sizes_of(network, workload.classes)
    writer = RecordingWriter(into, examples.idx[chosen], examples.lengths[chosen], wanted, sizes)
    live = Live(network, hardware)
    while True:
        for positions in batches:
            batch = {name: tensor.to(hardware.device) for name, tensor in examples.batch(positions).items()}
            pace.tick(batch["input_ids"].shape)
            writer.write(np.searchsorted(chosen, positions), live.answers(batch, writer.wanted))
        writer.flush()


class _PacedLoss(DistillationLoss):
    """The loss, which tells the pace when a step begins."""

    def __init__(self, pace: Pace, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._pace = pace

    def compute(self, part: Part, stage: Stage, progress: float = 0.0) -> LossTerms:
        """Return the loss of a batch."""
        self._pace.tick(part.batch["input_ids"].shape)
        return super().compute(part, stage, progress)


class _Given(LengthBuckets):
    """The benchmark's batches in place of a random order; each epoch the next list."""

    def __init__(
        self, epochs: list[list[list[int]]], lengths: np.ndarray, batch_size: int, seed: int, steps: int | None = None
    ) -> None:
        super().__init__(lengths, batch_size, seed, steps)
        self._epochs = epochs

    def __len__(self) -> int:
        return len(self._epochs[0])

    def epoch(self, number: int) -> list[np.ndarray]:
        """Return the batches of an epoch, as positions."""
        return [np.array(batch) for batch in self._epochs[number % len(self._epochs)]]


class _Circle(CurriculumState):
    """A curriculum whose stages last an epoch each and which begins again after the last one."""

    def end_epoch(self, mean_cosine: float | None) -> bool:
        """Move on."""
        self.position = (self.position + 1) % len(self.stages)
        return False


def _curriculum(contestant: Contestant, workload: Workload) -> CurriculumState:
    if contestant.variant == "objectives":
        return _Circle(stages_of_all(workload))
    layers = compared_layers(terms_for(workload, contestant.terms))
    if contestant.variant in ("progressive", "untruncated"):
        return _Circle(stages_of("progressive", "top", layers))
    return CurriculumState(stages_of("all", "top", layers))


def _epochs(laps: int, workload: Workload, batches: list[list[int]]) -> list[list[list[int]]]:
    """Return the batches of each epoch: all in one; for several laps, whose stages are epochs, one epoch a lap."""
    if laps == 1:
        return [batches]
    steps, warm_up, dealt = workload.steps, batches[: workload.warm_up], batches[workload.warm_up :]
    rounds = [dealt[at * steps : (at + 1) * steps] for at in range(workload.rounds)]
    return [part for part in (warm_up, *rounds, rounds[0]) for _ in range(laps)]


def _load(folder: Path, workload: Workload, hardware: Hardware) -> Network:
    network = network_of(load_classifier(folder, workload.classes))
    hardware.place(network.module)
    return network


def _answers(contestant: Contestant, folder: Path, workload: Workload, hardware: Hardware) -> Answers:
    if contestant.variant == "recomputed":
        return Live(_load(folder / "teacher", workload, hardware), hardware)
    return Recorded(RecordingReader(folder / "recorded"), None, hardware)


def _without(variant: str) -> AbstractContextManager[None]:
    """Leave out the part of a training that a variant is named after."""
    if variant == "torch_dropout":
        return _replaced(quick, "dropout", nn.functional.dropout)
    if variant == "full_vocabulary":
        return _replaced(loop, "quick_on_cpu", lambda module, used: quick.quick_on_cpu(module))
    if variant == "freed_memory":
        return _replaced(loop, "freed_memory_kept", lambda device: nullcontext())
    if variant == "compiled":
        # The part of a layer that attention and dropout do not cut in two: linear, GELU, linear.
        return _replaced(BertIntermediate, "forward", torch.compile(BertIntermediate.forward, dynamic=True))
    if variant == "untruncated":
        read = EncoderNetwork.read
        return _replaced(EncoderNetwork, "read", lambda self, batch, wanted: read(self, batch, wanted | LOGITS))
    return nullcontext()


@contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
