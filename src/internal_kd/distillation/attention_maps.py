"""How far students' attention is from their teacher's: both in eval mode, without dropout, on the same examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from internal_kd.distillation.attention_losses import attention_kl_by_head
from internal_kd.distillation.batches import Batch, Examples
from internal_kd.distillation.hardware import Hardware
from internal_kd.errors import UserError
from internal_kd.learners.learner import Network

BATCH_SIZE = 32
# The teacher's maps that are kept at a time. Long inputs go in several rounds, and students are loaded for each.
MAPS_BYTES = 10**9

Loader = Callable[[], Network]


@dataclass(frozen=True)
class Student:
    """A network to be compared with the teacher.

    Attributes:
        load: returns it in eval mode.
        pairs: (student layer, teacher layer), lowest first.
    """

    load: Loader
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Distance:
    """What was measured of one student.

    Attributes:
        kl: (examples, pairs, heads), KL(teacher || student) in nats averaged over real queries, as the loss has it.
        maps, teacher_maps: attention probabilities of the last pair (heads, n, n), by position of the examples shown.
    """

    kl: np.ndarray
    maps: dict[int, np.ndarray] = field(default_factory=dict)
    teacher_maps: dict[int, np.ndarray] = field(default_factory=dict)


def measure_distances(
    teacher: Loader,
    students: Sequence[Student],
    examples: Examples,
    positions: np.ndarray,
    shown: Sequence[int],
    hardware: Hardware,
) -> list[Distance | str]:
    """Return every student's distance from the teacher, or in one line why it has none.

    Students are loaded one by one. Measured are the examples at ``positions``; of those ``shown`` maps are kept as
    well.

    Raises:
        UserError: the teacher cannot be loaded.
    """
    measured = _Measured(examples, np.asarray(positions), set(shown), hardware)
    of_teacher = measured.loaded(teacher)
    layers = sorted({layer for student in students for _, layer in student.pairs})
    found: list[Distance | str] = [
        Distance(np.zeros((len(positions), len(student.pairs), of_teacher.heads))) for student in students
    ]
    for batches in measured.rounds(len(layers) * of_teacher.heads):
        answers = [measured.attention(of_teacher, batch, layers) for _, batch in batches]
        for number, student in enumerate(students):
            distance = found[number]
            if isinstance(distance, Distance):
                try:
                    measured.fill(distance, student, batches, answers)
                except UserError as error:
                    found[number] = str(error)
    return found


@dataclass(frozen=True)
class _Measured:
    """The examples that are measured: rows of the results are in the order of ``positions``."""

    examples: Examples
    positions: np.ndarray
    shown: set[int]
    hardware: Hardware

    def loaded(self, load: Loader) -> Network:
        network = load()
        network.module.eval()
        self.hardware.place(network.module)
        return network

    def attention(self, network: Network, batch: Batch, layers: Sequence[int]) -> dict[int, Tensor]:
        """Return log-probabilities by layer, (B, heads, n, n) each; nothing above them is computed."""
        with torch.inference_mode(), self.hardware.autocast():
            captured = network.read(batch, frozenset(("attention", layer) for layer in layers))
        return {layer: maps for (_, layer), maps in captured.items()}

    def rounds(self, maps: int) -> Iterator[list[tuple[np.ndarray, Batch]]]:
        """Yield (rows, batch) of examples of about the same length, as many at a time as the teacher's maps fit."""
        lengths = np.asarray(self.examples.lengths)[self.positions]
        order = np.argsort(-lengths, kind="stable")
        batches: list[tuple[np.ndarray, Batch]] = []
        kept = 0
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            needed = 4 * maps * len(rows) * int(lengths[rows].max()) ** 2
            if batches and kept + needed > MAPS_BYTES:
                yield batches
                batches, kept = [], 0
            batch = self.examples.batch(self.positions[rows])
            batches.append((rows, {name: tensor.to(self.hardware.device) for name, tensor in batch.items()}))
            kept += needed
        yield batches

    def fill(
        self,
        distance: Distance,
        student: Student,
        batches: Sequence[tuple[np.ndarray, Batch]],
        answers: Sequence[dict[int, Tensor]],
    ) -> None:
        network = self.loaded(student.load)
        own, matched = zip(*student.pairs, strict=True)
        for (rows, batch), of_teacher in zip(batches, answers, strict=True):
            of_student = self.attention(network, batch, own)
            for number, (layer, taught) in enumerate(student.pairs):
                _require_equal_heads(of_student[layer], of_teacher[taught])
                kl = attention_kl_by_head(of_student[layer], of_teacher[taught], batch["attention_mask"])
                distance.kl[rows, number] = kl.double().cpu().numpy()
            for place, position in enumerate(self.positions[rows].tolist()):
                if position in self.shown:
                    length = int(self.examples.lengths[position])
                    distance.maps[position] = _probabilities(of_student[own[-1]][place], length)
                    distance.teacher_maps[position] = _probabilities(of_teacher[matched[-1]][place], length)


def _require_equal_heads(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise UserError(f"{student.shape[1]} heads cannot be matched with the teacher's {teacher.shape[1]}")


def _probabilities(log_probs: Tensor, length: int) -> np.ndarray:
    return log_probs[:, :length, :length].exp().cpu().numpy()
