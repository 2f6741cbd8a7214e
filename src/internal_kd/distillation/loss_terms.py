"""The loss of one batch: the terms a stage of the curriculum asks for, weighed and added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from internal_kd.distillation.curricula import Stage
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.objectives import OBJECTIVES, Objective
from internal_kd.distillation.teacher_outputs import TeacherBatch
from internal_kd.distillation.teachers import Wanted, model_inputs
from internal_kd.models.attention import Captured, Recorder, record_internals


class Teacher(Protocol):
    """Anything that tells what the teacher says about a batch."""

    def outputs(self, batch: dict[str, Tensor], wanted: Wanted) -> TeacherBatch:
        """Return the teacher's outputs, padded like the batch."""
        ...


@dataclass
class LossTerms:
    """A batch's loss and its parts.

    total: scalar with gradient; output: unweighted scalars by objective; layers: unweighted scalars by objective and
    student layer, all detached.
    """

    total: Tensor
    output: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, dict[int, Tensor]] = field(default_factory=dict)


class DistillationLoss:
    """Computes a batch's loss for one student, teacher and method.

    ``layer_map[l - 1]`` is the teacher layer matched with student layer l. Without a teacher only ``hard`` counts.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Teacher | None,
        weights: dict[str, float],
        layer_map: tuple[int, ...],
        temperature: float,
        hardware: Hardware,
    ) -> None:
        """Switch the student to attention that can be captured when a term reads its insides."""
        self._student, self._teacher, self._hardware = student, teacher, hardware
        self._weights, self._map, self._temperature = weights, layer_map, temperature
        self._functions = {name: OBJECTIVES[name].resolve() for name in weights}
        inside = any(OBJECTIVES[name].level == "layer" for name in weights)
        self._recorder: Recorder | None = record_internals(student) if inside else None

    def compute(self, batch: dict[str, Tensor], stage: Stage) -> LossTerms:
        """Return the loss of a batch (input_ids, attention_mask, labels, idx, ...) in a stage of the curriculum.

        Nothing above the stage's highest layer is computed, neither in the student nor in the teacher.
        """
        captured, logits = self._forward(batch, stage)
        said = self._ask_teacher(batch, stage)
        terms = LossTerms(torch.zeros((), device=self._hardware.device))
        for name, weight in self._weights.items():
            objective = OBJECTIVES[name]
            if objective.level == "layer":
                values = self._layer_values(name, objective, stage, captured, said, batch)
                for value in values.values():
                    terms.total = terms.total + weight * value
                if values:
                    terms.layers[name] = {layer: value.detach() for layer, value in values.items()}
            elif stage.classification:
                value = self._output_value(name, objective, logits, said, batch)
                terms.total = terms.total + weight * value
                terms.output[name] = value.detach()
        return terms

    def _forward(self, batch: dict[str, Tensor], stage: Stage) -> tuple[Captured, Tensor | None]:
        with self._hardware.autocast():
            if self._recorder is None:
                return Captured(), self._student(**model_inputs(batch, self._hardware.device)).logits
            attention = stage.layers if self._reads("attention") else ()
            cls = stage.layers if self._reads("cls") else ()
            with self._recorder.capture(attention, cls, stage.highest_layer) as captured:
                out = self._student(**model_inputs(batch, self._hardware.device))
        return captured, None if out is None else out.logits

    def _ask_teacher(self, batch: dict[str, Tensor], stage: Stage) -> TeacherBatch | None:
        if self._teacher is None:
            return None
        layers = tuple(sorted({self._map[layer - 1] for layer in stage.layers})) if self._recorder else ()
        wanted = Wanted(
            logits=stage.classification and self._reads("logits"),
            cls_layers=layers if self._reads("cls") else (),
            attention_layers=layers if self._reads("attention") else (),
        )
        return self._teacher.outputs(batch, wanted)

    def _reads(self, what: str) -> bool:
        return any(OBJECTIVES[name].reads == what for name in self._weights)

    def _layer_values(
        self,
        name: str,
        objective: Objective,
        stage: Stage,
        captured: Captured,
        said: TeacherBatch | None,
        batch: dict[str, Tensor],
    ) -> dict[int, Tensor]:
        assert said is not None
        values = {}
        for layer in stage.layers:
            matched = self._map[layer - 1]
            if objective.reads == "attention":
                pair = (captured.attention[layer], said.attention[matched], batch["attention_mask"])
                values[layer] = self._functions[name](*pair)
            else:
                values[layer] = self._functions[name](captured.cls[layer], said.cls[matched])
        return values

    def _output_value(
        self,
        name: str,
        objective: Objective,
        logits: Tensor | None,
        said: TeacherBatch | None,
        batch: dict[str, Tensor],
    ) -> Tensor:
        assert logits is not None
        if objective.reads == "labels":
            return self._functions[name](logits, batch["labels"])
        assert said is not None
        return self._functions[name](logits, said.logits, self._temperature)
