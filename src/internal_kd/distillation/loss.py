"""The loss of one batch: what the terms read, what they are, weighed and added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from internal_kd.distillation.answers import Answers
from internal_kd.distillation.averaging import Averaged
from internal_kd.distillation.batches import Part
from internal_kd.distillation.curricula import Stage, weight_at
from internal_kd.distillation.declarations import KINDS
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.terms import Pair, Term
from internal_kd.errors import UserError
from internal_kd.learners.learner import Captured, Network, Wanted
from internal_kd.registry import resolve

# Standard deviation of a projection's first weights: that of BERT's own.
SPREAD = 0.02

Counting = tuple[Term, tuple[Pair, ...]]


@dataclass
class LossTerms:
    """The loss of a part of a batch.

    Attributes:
        total: scalar; the part's share of the batch's loss, weighed and added. It has no gradient if nothing counts.
        output: unweighed means by term, detached.
        layers: the same by term and student layer.
        counts: how many examples, rows or labelled rows each mean was taken over.
    """

    total: Tensor
    output: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class DistillationLoss(nn.Module):
    """The loss of one student under one method. Its parameters are the learned projections; most methods have none.

    Args:
        answers: the teacher's; None if no term compares with one.

    Raises:
        UserError: a term compares with a teacher, and there is none.

    Example:
        >>> loss = DistillationLoss(network, terms_of({"hard": 1.0}), None, hardware)  # doctest: +SKIP
        >>> loss.compute(Part(batch), stage).total.backward()  # doctest: +SKIP
    """

    def __init__(
        self, network: Network, terms: Sequence[Term], answers: Answers | None, hardware: Hardware, seed: int = 0
    ) -> None:
        super().__init__()
        if answers is None and (listening := [term.name for term in terms if term.objective.teacher]):
            raise UserError(f"objective {listening[0]!r} compares with a teacher, and there is none; name a teacher")
        self._network, self._terms, self._answers, self._hardware = network, tuple(terms), answers, hardware
        self._functions: dict[str, Callable[..., Any]] = {term.name: resolve(term.objective.function) for term in terms}
        self._projections = nn.ModuleDict()
        generator = torch.Generator().manual_seed(seed)
        for term in sorted(terms, key=lambda term: term.name):
            for kind, widths in term.projections.items():
                for student, _ in term.pairs:
                    if (name := _projection_name(term, kind, student)) not in self._projections:
                        self._projections[name] = _projection(*widths, generator)
        self.to(hardware.device)

    def follow(self, step: int) -> None:
        """Let a teacher that is an average of the student's weights follow it after step ``step``, from 0."""
        if isinstance(self._answers, Averaged):
            self._answers.follow(step)

    def compute(self, part: Part, stage: Stage, progress: float = 0.0) -> LossTerms:
        """Return the loss of some examples in a stage of the curriculum.

        Layer terms are summed over the pairs that the stage has reached, terms on the outputs count once. Nothing
        above the highest layer that counts is computed, neither in the student nor in the teacher.

        Args:
            progress: share of all steps done, for weights that move.

        Raises:
            UserError: shapes of student and teacher do not fit, or a term that compares the examples of a batch with
                each other is given a part of it.
        """
        terms = LossTerms(torch.zeros((), device=self._hardware.device))
        counting = list(self._counting(part, stage))
        if not counting:
            return terms
        student, teacher = self._read(part, counting)
        for term, pairs in counting:
            if term.objective.across_batch and part.share < 1:
                raise UserError(
                    f"objective {term.name!r} compares the examples of a batch with each other, and {len(part)} "
                    "are computed at once: lower batch_size to what fits into memory, and train in one process"
                )
            share, count = _counted(term, part)
            weight = weight_at(term.weight, progress) * share
            terms.counts[term.name] = count
            for layer, value in self._values(term, pairs, student, teacher, part):
                terms.total = terms.total + weight * value
                if layer is None:
                    terms.output[term.name] = value.detach()
                else:
                    terms.layers.setdefault(term.name, {})[layer] = value.detach()
        return terms

    def _counting(self, part: Part, stage: Stage) -> Iterator[Counting]:
        """The terms that count here, each with its pairs."""
        for term in self._terms:
            pairs = term.pairs_in(stage.layers)
            somewhere = bool(pairs) or term.objective.per == "output"
            if stage.counts(term.name) and somewhere and _counted(term, part)[1]:
                yield term, pairs

    def _read(self, part: Part, counting: list[Counting]) -> tuple[Captured, Captured]:
        of_student: Wanted = frozenset().union(*(term.of_student(pairs) for term, pairs in counting))
        of_teacher: Wanted = frozenset().union(*(term.of_teacher(pairs) for term, pairs in counting))
        with self._hardware.autocast():
            student = self._network.read(part.batch, of_student)
        # The teacher comes second: while a GPU computes the student, recorded answers are read.
        teacher = self._answers.answers(part.batch, of_teacher) if self._answers and of_teacher else {}
        return student, teacher

    def _values(
        self, term: Term, pairs: tuple[Pair, ...], student: Captured, teacher: Captured, part: Part
    ) -> list[tuple[int | None, Tensor]]:
        """The term's value on the outputs, on each pair, or on all levels together."""
        if term.objective.per == "pair":
            return [(pair[0], self._value(term, [pair], student, teacher, part)) for pair in pairs]
        return [(None, self._value(term, list(pairs), student, teacher, part))]

    def _value(self, term: Term, pairs: list[Pair], student: Captured, teacher: Captured, part: Part) -> Tensor:
        """One call of a term's function."""
        objective = term.objective
        rows = part.labelled if objective.reads_labels else None
        given: list[Tensor] = []
        for number, kind in enumerate(objective.kinds):
            sides = [_levels(term, kind, [pair[0] for pair in pairs], student)]
            if kind in term.projections:
                mapped = [self._project(term, kind, pair[0], student) for pair in pairs]
                sides = [mapped[0] if objective.per == "pair" else torch.stack(mapped, dim=1)]
            if objective.teacher:
                sides.append(_levels(term, objective.teacher_kinds[number], [pair[1] for pair in pairs], teacher))
            given += sides
        if objective.per_token:
            given.append(part.batch["attention_mask"])
        if objective.reads_labels:
            given.append(part.labels)
        if rows is not None:
            given = [tensor[rows] for tensor in given]
        value = self._functions[term.name](*given, **term.arguments)
        return torch.stack(value).sum() if isinstance(value, tuple) else value

    def _project(self, term: Term, kind: str, layer: int, student: Captured) -> Tensor:
        with self._hardware.autocast():
            return self._projections[_projection_name(term, kind, layer)](student[kind, layer])


def _counted(term: Term, part: Part) -> tuple[float, int]:
    """The share of the batch that a part holds of what a term is averaged over, and how many that are.

    A window of tags that holds only further pieces of one long word is an example without a row.
    """
    if term.objective.reads_labels:
        return part.labelled_share, part.labelled_count
    if term.objective.per == "output":
        return part.row_share, part.row_count
    return part.share, len(part)


def _levels(term: Term, kind: str, layers: list[int], captured: Captured) -> Tensor:
    """A kind of one layer (B, ...), or for a term on the stack of all of them (B, levels, ...)."""
    if not KINDS[kind].by_layer:
        return captured[kind, 0]
    if term.objective.per == "pair":
        return captured[kind, layers[0]]
    return torch.stack([captured[kind, layer] for layer in layers], dim=1)


def _projection_name(term: Term, kind: str, layer: int) -> str:
    # Terms share projections of one kind, as TinyBERT's terms on embeddings and on layers do.
    return kind if term.projection == "shared" else f"{kind}-{layer}"


def _projection(student_width: int, teacher_width: int, generator: torch.Generator) -> nn.Linear:
    made = nn.utils.skip_init(nn.Linear, student_width, teacher_width)
    with torch.no_grad():
        made.weight.normal_(0.0, SPREAD, generator=generator)
        made.bias.zero_()
    return made
