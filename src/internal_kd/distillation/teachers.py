"""Where a student's batch finds its teacher: read from disk, computed anew, or half and half."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.teacher_outputs import TeacherBatch, TeacherOutputsReader, as_recorded
from internal_kd.models.attention import Recorder, record_internals

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Wanted:
    """What one batch needs of its teacher; ``logits`` says whether its whole depth is needed."""

    logits: bool
    cls_layers: tuple[int, ...]
    attention_layers: tuple[int, ...]

    @property
    def highest_layer(self) -> int:
        """The highest teacher layer whose internals are needed, or 0."""
        return max((*self.cls_layers, *self.attention_layers), default=0)


def model_inputs(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the entries of a batch that a model's forward takes, on its device."""
    return {name: batch[name].to(device, non_blocking=True) for name in MODEL_INPUTS if name in batch}


class ComputedTeacher:
    """Runs the frozen teacher, only as far up as needed."""

    def __init__(self, model: PreTrainedModel, hardware: Hardware) -> None:
        """``model`` is frozen and in eval mode already."""
        self._model, self._hardware = model, hardware
        self._recorder: Recorder = record_internals(model)

    def outputs(self, batch: dict[str, Tensor], wanted: Wanted) -> TeacherBatch:
        """Return the teacher's outputs for a batch on the model's device."""
        upto = None if wanted.logits else wanted.highest_layer
        capture = self._recorder.capture(wanted.attention_layers, wanted.cls_layers, upto)
        with torch.no_grad(), self._hardware.autocast(), capture as captured:
            out = self._model(**model_inputs(batch, self._hardware.device))
        logits = out.logits.float() if out is not None else torch.empty(0)
        return TeacherBatch(logits, dict(captured.cls), dict(captured.attention))


class RecordedTeacher:
    """Reads what was recorded and computes the layers that were not, as when attention maps exceed the disk budget.

    Computed maps are rounded like recorded ones, so that the budget decides where they come from and not what they say.
    """

    def __init__(self, reader: TeacherOutputsReader, computed: ComputedTeacher | None, hardware: Hardware) -> None:
        """``computed``, in the precision of the recording, may be None when everything wanted was recorded."""
        self._reader, self._computed, self._hardware = reader, computed, hardware

    def outputs(self, batch: dict[str, Tensor], wanted: Wanted) -> TeacherBatch:
        """Return the teacher's outputs for a batch, padded like it, on the batch's device."""
        recorded = tuple(layer for layer in wanted.attention_layers if self._reader.has("attention", layer))
        length = batch["input_ids"].shape[1]
        read = self._reader.read(batch["idx"], length, wanted.cls_layers, recorded)
        attention = {layer: self._to_device(maps) for layer, maps in read.attention.items()}
        if missing := tuple(layer for layer in wanted.attention_layers if layer not in recorded):
            assert self._computed is not None
            computed = self._computed.outputs(batch, Wanted(False, (), missing)).attention
            attention |= {layer: as_recorded(maps) for layer, maps in computed.items()}
        cls = {layer: self._to_device(states) for layer, states in read.cls.items()}
        return TeacherBatch(self._to_device(read.logits), cls, attention)

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._hardware.device, non_blocking=True)


def missing_attention(reader: TeacherOutputsReader, layers: Collection[int]) -> list[int]:
    """Return the layers whose attention was not recorded and must be computed while training."""
    return [layer for layer in layers if not reader.has("attention", layer)]
