"""The registry of curricula: in which order a student meets its teacher's layers (paper, section 3.3).

A curriculum is a function from the student's depth to stages, bottom up. A new one is a function, a line in
``CURRICULA`` and a test. The trainer moves to the next stage when a stage has had its epochs or its mean cosine loss
has fallen below the threshold, whichever comes first; the last stage takes all epochs that remain, so every
method of a study trains for the same number of epochs whatever its curriculum [ours].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from internal_kd.errors import UserError


@dataclass(frozen=True)
class Stage:
    """One step of a curriculum.

    ``layers`` are the student layers (1-based) whose internal loss counts; ``classification`` says whether the
    output terms count; ``last`` marks the stage that runs until the training ends.
    """

    name: str
    layers: tuple[int, ...]
    classification: bool
    last: bool = False

    @property
    def highest_layer(self) -> int | None:
        """The highest student layer that must be computed, or None when the whole student is needed."""
        return None if self.classification else max(self.layers)


def all_layers(depth: int, always: bool) -> tuple[Stage, ...]:
    """Every matched pair and the classification loss, every epoch."""
    return (Stage("all", tuple(range(1, depth + 1)), classification=True, last=True),)


def progressive(depth: int, always: bool) -> tuple[Stage, ...]:
    """PID: one pair at a time, bottom up, then classification only."""
    climb = [Stage(f"layer {layer}", (layer,), classification=always) for layer in range(1, depth + 1)]
    return (*climb, Stage("classification", (), classification=True, last=True))


def stacked(depth: int, always: bool) -> tuple[Stage, ...]:
    """SID: bottom up, keeping the earlier pairs, then classification only."""
    climb = [
        Stage(f"layers 1-{layer}" if layer > 1 else "layer 1", tuple(range(1, layer + 1)), classification=always)
        for layer in range(1, depth + 1)
    ]
    return (*climb, Stage("classification", (), classification=True, last=True))


CURRICULA: dict[str, Callable[[int, bool], tuple[Stage, ...]]] = {
    "all": all_layers,
    "progressive": progressive,
    "stacked": stacked,
}


def stages_of(curriculum: str, classification: str, depth: int) -> tuple[Stage, ...]:
    """Return the stages of a curriculum for a student of ``depth`` layers.

    ``classification`` is "top" (only in the last stage) or "always" (in every stage).
    Raises UserError when the curriculum has no end: its final stage, and no other, is marked ``last``.
    """
    stages = CURRICULA[curriculum](depth, classification == "always")
    if [stage.last for stage in stages] != [False] * (len(stages) - 1) + [True]:
        raise UserError(f"curriculum {curriculum!r} has no end: give its final stage, and no other, last=True")
    return stages


@dataclass
class Climb:
    """Where a training stands in its curriculum; plain numbers, so that a checkpoint can hold it."""

    stages: tuple[Stage, ...]
    epochs_per_layer: int
    cosine_threshold: float
    position: int = 0
    epochs_here: int = 0

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self.stages[self.position]

    def end_epoch(self, mean_cosine: float | None) -> bool:
        """Count an epoch; move up when the stage has had its epochs or its mean cosine loss fell below the threshold.

        ``mean_cosine`` is None for methods without the cosine term. Returns whether a new stage begins.
        """
        self.epochs_here += 1
        close = mean_cosine is not None and mean_cosine < self.cosine_threshold
        if self.stage.last or not (close or self.epochs_here >= self.epochs_per_layer):
            return False
        self.position, self.epochs_here = self.position + 1, 0
        return True
