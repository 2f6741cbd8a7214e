"""A teacher that is the running average of its student's own weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from internal_kd.distillation.answers import Live
from internal_kd.distillation.batches import Batch
from internal_kd.distillation.hardware import Hardware
from internal_kd.learners.learner import Captured, Network, Wanted
from internal_kd.learners.quick import UsedRows


class Averaged(nn.Module):
    """Answers by an exponential moving average of a student's weights, in eval mode.

    After step t (from 0) it keeps min(1 - 1 / (t + 1), ``keep``) of itself and takes the rest from the student.
    Source: Tarvainen and Valpola 2017, Mean teachers are better role models (arXiv 1703.01780), section 2.
    """

    def __init__(self, student: Network, keep: float, hardware: Hardware) -> None:
        super().__init__()
        hardware.place(student.module)
        average = copy.deepcopy(student)
        self._student, self._keep, self._live = student, keep, Live(average, hardware)
        self.average = average.module  # a part of this module, and so of every checkpoint

    def answers(self, batch: Batch, wanted: Wanted) -> Captured:
        """Return the average's outputs and internals for a batch."""
        return self._live.answers(batch, wanted)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take over a share of the student's weights after its step ``step``, from 0."""
        share = min(1 - 1 / (step + 1), self._keep)
        student = self._student.module
        theirs: dict[str, Tensor] = student.state_dict()
        for name, weight in self.average.state_dict().items():
            if not weight.is_floating_point():
                weight.copy_(theirs[name])
                continue
            holder = student.get_submodule(name.rpartition(".")[0])
            if isinstance(holder, UsedRows):  # the others are never trained
                weight[holder.used] = weight[holder.used].lerp(theirs[name], 1 - share)
            else:
                weight.lerp_(theirs[name], 1 - share)
