"""Curricula: which terms and which layers count, when, for how long and with what weight.

A named curriculum is a function from the student layers that are compared to stages, bottom up; a new one is a
function and a line in ``CURRICULA`` (paper, section 3.3). Training moves to the next stage when a stage has had its
epochs or its mean cosine loss has fallen below the threshold, whichever comes first; the last stage takes all epochs
that remain, so that every method of a study trains for the same number of epochs [ours]. Phases instead are a list of
trainings in a row, each with terms, epochs, optimizer state and learning rate schedule of its own (TinyBERT).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.errors import UserError, nearest
from internal_kd.fields import Count, Frozen, Name, NotNegative, Positive, Share
from internal_kd.registry import Registry


class Schedule(Frozen):
    """A weight that moves linearly with the share of training done, as ``soft: {from: 1, to: 0}``.

    BAM's teacher annealing is ``{soft: {from: 1, to: 0}, hard: {from: 0, to: 1}}``: the gradient is that of the
    cross-entropy with the target lambda * y + (1 - lambda) * p_T (Clark et al. 2019, section 3).

    Example:
        >>> Schedule.model_validate({"from": 1, "to": 0}).at(0.25)
        0.75
        >>> Schedule(start=0, end=8, until=0.5).at(0.75)
        8.0
    """

    start: NotNegative = Field(alias="from", description="weight at the first step")
    end: NotNegative = Field(alias="to", description="weight at the end")
    until: Annotated[Share, Field(gt=0)] = Field(1.0, description="share of all steps after which the end is reached")

    def at(self, progress: float) -> float:
        """Return the weight when ``progress`` (0 to 1) of all steps is done."""
        return float(self.start + (self.end - self.start) * min(1.0, progress / self.until))


def weight_at(weight: float | Schedule, progress: float) -> float:
    """Return a weight, constant or scheduled, when ``progress`` (0 to 1) of all steps is done."""
    return weight.at(progress) if isinstance(weight, Schedule) else weight


class Phase(Frozen):
    """A part of a training with terms of its own; what it leaves out is as in the method."""

    epochs: Count
    terms: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(description="terms of `weights` that count")
    learning_rate: Positive | None = None
    batch_size: Count | None = None


@dataclass(frozen=True)
class Stage:
    """A part of a training in which the same terms count.

    Attributes:
        name: for history and logs.
        layers: student layers whose comparisons count.
        output_terms: whether the terms on the outputs count, and so the head is trained.
        terms: the terms that count; None: all.
        epochs: how long; None: the method's ``epochs_per_layer``, and in the last stage all that remain.
        learning_rate, batch_size: instead of the method's.
        restarts: whether it begins with a fresh optimizer and a learning rate schedule of its own.
        last: whether it runs until the training ends.
    """

    name: str
    layers: tuple[int, ...]
    output_terms: bool
    terms: tuple[str, ...] | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    restarts: bool = False
    last: bool = False

    def counts(self, term: str) -> bool:
        """Whether a term counts, on the layers that do."""
        return (self.terms is None or term in self.terms) and (OBJECTIVES[term].per != "output" or self.output_terms)


def all_layers(layers: tuple[int, ...], always: bool) -> tuple[Stage, ...]:
    """Every matched pair and the output terms, every epoch."""
    return (Stage("all", layers, output_terms=True, last=True),)


def progressive(layers: tuple[int, ...], always: bool) -> tuple[Stage, ...]:
    """PID: one pair at a time, bottom up, then output terms only."""
    climb = [Stage(f"layer {layer}", (layer,), output_terms=always) for layer in layers]
    return (*climb, Stage("classification", (), output_terms=True, last=True))


def stacked(layers: tuple[int, ...], always: bool) -> tuple[Stage, ...]:
    """SID: bottom up, keeping the earlier pairs, then output terms only."""
    climb = [
        Stage(f"layers {layers[0]}-{layer}" if upto > 1 else f"layer {layer}", layers[:upto], output_terms=always)
        for upto, layer in enumerate(layers, start=1)
    ]
    return (*climb, Stage("classification", (), output_terms=True, last=True))


Curriculum = Callable[[tuple[int, ...], bool], tuple[Stage, ...]]

CURRICULA: Registry[Curriculum] = Registry(
    "curriculum", {"all": all_layers, "progressive": progressive, "stacked": stacked}
)


def stages_of(
    curriculum: str | Sequence[Phase], classification: str, layers: Sequence[int], terms: Collection[str] = ()
) -> tuple[Stage, ...]:
    """Return the stages of a curriculum.

    Args:
        curriculum: a name of ``CURRICULA``, or phases.
        classification: "top" (output terms only in the last stage) or "always"; phases name their terms themselves.
        layers: student layers that the method's terms compare, ascending (`terms.compared_layers`).
        terms: the method's terms, which phases choose from.

    Raises:
        UserError: the curriculum is unknown or has no end (its final stage, and no other, is marked ``last``); a
            phase names a term without a weight, or a term is in no phase.

    Example:
        >>> [stage.layers for stage in stages_of("stacked", "top", (1, 2))]
        [(1,), (1, 2), ()]
    """
    if not isinstance(curriculum, str):
        return _phases(tuple(curriculum), tuple(layers), terms)
    stages = CURRICULA[curriculum](tuple(layers), classification == "always")
    if [stage.last for stage in stages] != [False] * (len(stages) - 1) + [True]:
        raise UserError(f"curriculum {curriculum!r} has no end: give its final stage, and no other, last=True")
    own = any(stage.restarts or stage.batch_size or stage.learning_rate for stage in stages)
    if own and not all(stage.restarts and stage.epochs for stage in stages):
        raise UserError(
            f"curriculum {curriculum!r}: a stage with a batch size or learning rate of its own needs restarts=True and "
            "epochs, and so do all others"
        )
    return stages


def _phases(phases: tuple[Phase, ...], layers: tuple[int, ...], terms: Collection[str]) -> tuple[Stage, ...]:
    if not phases:
        raise UserError("curriculum: phases is empty; list at least one, such as {epochs: 3, terms: [soft]}")
    for number, phase in enumerate(phases, start=1):
        if unknown := [term for term in phase.terms if term not in terms]:
            near = nearest(unknown[0], tuple(terms))
            raise UserError(
                f"curriculum: phase {number} names {unknown[0]!r}, which has no weight{near}; add it to weights"
            )
    if unused := [term for term in terms if not any(term in phase.terms for phase in phases)]:
        raise UserError(f"curriculum: {unused[0]!r} has a weight and is in no phase; name it in one, or remove it")
    return tuple(
        Stage(
            f"phase {number}",
            layers,
            output_terms=any(OBJECTIVES[term].per == "output" for term in phase.terms),
            terms=phase.terms,
            epochs=phase.epochs,
            learning_rate=phase.learning_rate,
            batch_size=phase.batch_size,
            restarts=True,
            last=number == len(phases),
        )
        for number, phase in enumerate(phases, start=1)
    )


def epochs_of(stages: Sequence[Stage], epochs: int) -> int:
    """Return how many epochs a training has: those that its stages name together, or else the method's ``epochs``."""
    named = [stage.epochs for stage in stages if stage.epochs is not None]
    return sum(named) if len(named) == len(stages) else epochs


@dataclass
class CurriculumState:
    """Where a training stands in its curriculum; plain numbers, so that a checkpoint can keep it.

    Attributes:
        epochs_per_layer: the longest stay in a stage that names no epochs.
        cosine_threshold: such a stage ends early when its epoch's mean cosine loss is below this.
        epochs_here: epochs that it has had.
    """

    stages: tuple[Stage, ...]
    epochs_per_layer: int = 1
    cosine_threshold: float = 0.0
    position: int = 0
    epochs_here: int = 0

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self.stages[self.position]

    def end_epoch(self, mean_cosine: float | None) -> bool:
        """Count an epoch and move up if the stage is over; return whether a new one begins.

        ``mean_cosine`` is the epoch's ``cls_cosine``, None for methods without it.
        """
        self.epochs_here += 1
        stage = self.stage
        if stage.epochs is None:
            close = mean_cosine is not None and mean_cosine < self.cosine_threshold
            over = close or self.epochs_here >= self.epochs_per_layer
        else:
            over = self.epochs_here >= stage.epochs
        if stage.last or not over:
            return False
        self.position, self.epochs_here = self.position + 1, 0
        return True

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"position": self.position, "epochs_here": self.epochs_here}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.position, self.epochs_here = state["position"], state["epochs_here"]
