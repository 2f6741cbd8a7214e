"""An exported student beside its teacher on the clock: torch and ONNX, one example and 32, on texts of the dev set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.analysis.latency import BATCH, ONE
from internal_kd.artefacts import TeacherRun
from internal_kd.data.encoder_files import WEIGHTS
from internal_kd.data.tokens import TokenSplit
from internal_kd.deployment.onnx_files import OnnxModel
from internal_kd.deployment.timing import Timing, one_thread, take_turns

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from internal_kd.analysis.cells import Cell

TEACHER, TORCH, ONNX, ONNX_INT8 = "teacher, torch fp32", "torch fp32", "ONNX fp32", "ONNX int8"
# For each batch size; at least 5 rounds are made, whatever they take.
SECONDS = 5.0
_DRAWN = 40


@dataclass(frozen=True)
class LatencyLine:
    """The timing of one contestant at one batch size; ``tokens`` is the median length of the timed batches."""

    contestant: str
    batch: int
    tokens: int
    timing: Timing


def teacher_model(teacher: TeacherRun, cell: Cell, classes: int) -> PreTrainedModel:
    """Return the teacher that taught; where its weights are not here, its like with random ones, as fast."""
    from internal_kd.deployment.measure_latency import random_classifier
    from internal_kd.models.classifiers import load_classifier

    if (teacher.folder / "model" / WEIGHTS).is_file():
        return load_classifier(teacher.folder / "model", classes)
    assert cell.depth is not None
    return random_classifier(teacher.encoder.folder, cell.depth)


def time_contestants(
    teacher: PreTrainedModel, student: PreTrainedModel, onnx: Mapping[str, OnnxModel], split: TokenSplit
) -> list[LatencyLine]:
    """Time the teacher, the student and its ONNX graphs in turns; all see the same examples in every round.

    Examples are drawn from the split at random, always the same ones. Speed-ups are against the teacher.
    """
    drawn = np.random.Generator(np.random.PCG64(0))
    lines = []
    for size in (ONE, BATCH):
        batches = [drawn.choice(len(split), size=min(size, len(split)), replace=False) for _ in range(_DRAWN)]
        contestants = {TEACHER: _in_torch(teacher, split, batches), TORCH: _in_torch(student, split, batches)}
        contestants |= {name: _in_onnx(model, split, batches) for name, model in onnx.items()}
        with one_thread():
            timings = take_turns(list(contestants.values()), seconds=SECONDS)
        tokens = timed_tokens(split.lengths, batches, timings[0].rounds)
        lines += [LatencyLine(name, size, tokens, timing) for name, timing in zip(contestants, timings, strict=True)]
    return lines


def timed_tokens(lengths: np.ndarray, batches: Sequence[np.ndarray], rounds: int) -> int:
    """Return the median length of the batches of so many rounds, which go through the drawn ones in their order."""
    return int(np.median([lengths[batches[number % len(batches)]].max() for number in range(rounds)]))


def _in_torch(model: PreTrainedModel, split: TokenSplit, batches: list[np.ndarray]) -> Callable[[int], object]:
    import torch

    from internal_kd.distillation.teachers import model_inputs

    prepared = [model_inputs(split.batch(positions), torch.device("cpu")) for positions in batches]
    return lambda number: model(**prepared[number % len(prepared)])


def _in_onnx(model: OnnxModel, split: TokenSplit, batches: list[np.ndarray]) -> Callable[[int], object]:
    prepared = [model.inputs(split, positions) for positions in batches]
    return lambda number: model.logits(prepared[number % len(prepared)])
