"""How far students' attention is from their teacher's: both in eval mode, without dropout, on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.losses import attention_kl_by_head
from internal_kd.distillation.teachers import model_inputs
from internal_kd.errors import UserError
from internal_kd.models.attention import Recorder, record_internals
from internal_kd.models.classifiers import load_classifier

if TYPE_CHECKING:
    from internal_kd.data.tokens import TokenSplit

BATCH_SIZE = 32
# The teacher's maps that are kept at a time. Long inputs go in several rounds, for each of which students are loaded.
MAPS_BYTES = 10**9

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Pupil:
    """A model to be held against the teacher: its folder, and the teacher's layer for each of its own, lowest first."""

    folder: Path
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Distance:
    """What was measured of one pupil.

    kl: (examples, layers, heads), KL(teacher || pupil) in nats averaged over real queries, as the loss has it;
    maps, teacher_maps: of every example to be shown the attention probabilities of the last matched pair of layers,
    (heads, length, length) each.
    """

    kl: np.ndarray
    maps: dict[int, np.ndarray] = field(default_factory=dict)
    teacher_maps: dict[int, np.ndarray] = field(default_factory=dict)


def measure_distances(
    teacher: Path,
    pupils: Sequence[Pupil],
    split: TokenSplit,
    positions: np.ndarray,
    shown: Sequence[int],
    classes: int,
    hardware: Hardware,
) -> list[Distance | str]:
    """Return, for every pupil, its distance on the examples at ``positions``, or in one line why it has none.

    ``shown`` are those of the positions whose maps are kept as well. Raises UserError when the teacher cannot be read.
    """
    measured = _Measured(split, np.asarray(positions), set(shown))
    of_teacher = _load(teacher, classes, hardware)
    wanted = sorted({layer for pupil in pupils for layer in pupil.layers})
    found: list[Distance | str] = [measured.nothing(pupil, of_teacher) for pupil in pupils]
    for batches in measured.rounds(len(wanted) * of_teacher.model.config.num_attention_heads):
        taught = [_attention(of_teacher, batch, wanted, hardware) for _, batch in batches]
        for number, pupil in enumerate(pupils):
            distance = found[number]
            if isinstance(distance, Distance):
                try:
                    measured.fill(distance, pupil, _load(pupil.folder, classes, hardware), batches, taught, hardware)
                except UserError as error:
                    found[number] = str(error)
    return found


@dataclass(frozen=True)
class _Measured:
    """The examples that are measured: rows of the results are in the order of ``positions``."""

    split: TokenSplit
    positions: np.ndarray
    shown: set[int]

    def nothing(self, pupil: Pupil, teacher: Recorder) -> Distance:
        heads = teacher.model.config.num_attention_heads
        return Distance(np.zeros((len(self.positions), len(pupil.layers), heads)))

    def rounds(self, maps: int) -> Iterator[list[tuple[np.ndarray, Batch]]]:
        """Yield (rows, batch) of examples of about the same length, as many at a time as the teacher's maps fit."""
        lengths = self.split.lengths[self.positions]
        order = np.argsort(-lengths, kind="stable")
        batches: list[tuple[np.ndarray, Batch]] = []
        kept = 0
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            needed = 4 * maps * len(rows) * int(lengths[rows].max()) ** 2
            if batches and kept + needed > MAPS_BYTES:
                yield batches
                batches, kept = [], 0
            batches.append((rows, self.split.batch(self.positions[rows])))
            kept += needed
        yield batches

    def fill(
        self,
        distance: Distance,
        pupil: Pupil,
        model: Recorder,
        batches: Sequence[tuple[np.ndarray, Batch]],
        taught: Sequence[dict[int, Tensor]],
        hardware: Hardware,
    ) -> None:
        own = range(1, len(pupil.layers) + 1)
        for (rows, batch), of_teacher in zip(batches, taught, strict=True):
            mask = batch["attention_mask"].to(hardware.device)
            learned = _attention(model, batch, own, hardware)
            for layer, matched in zip(own, pupil.layers, strict=True):
                _require_equal_heads(learned[layer], of_teacher[matched])
                kl = attention_kl_by_head(learned[layer], of_teacher[matched], mask)
                distance.kl[rows, layer - 1] = kl.double().cpu().numpy()
            for place, position in enumerate(self.positions[rows].tolist()):
                if position in self.shown:
                    length = int(self.split.lengths[position])
                    distance.maps[position] = _probabilities(learned[own[-1]][place], length)
                    distance.teacher_maps[position] = _probabilities(of_teacher[pupil.layers[-1]][place], length)


def _load(folder: Path, classes: int, hardware: Hardware) -> Recorder:
    model = load_classifier(folder, classes)
    hardware.place(model)
    return record_internals(model)


def _attention(model: Recorder, batch: Batch, layers: Sequence[int], hardware: Hardware) -> dict[int, Tensor]:
    """Return log-probabilities by layer, (batch, heads, length, length) each; nothing above them is computed."""
    with torch.inference_mode(), hardware.autocast(), model.capture(layers, upto=max(layers)) as captured:
        model.model(**model_inputs(batch, hardware.device))
    return dict(captured.attention)


def _require_equal_heads(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise UserError(f"{student.shape[1]} heads cannot be matched with the teacher's {teacher.shape[1]}")


def _probabilities(log_probs: Tensor, length: int) -> np.ndarray:
    return log_probs[:, :length, :length].exp().cpu().numpy()
