"""Where a student's batch finds its teacher's answers: computed while training, recorded, of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from internal_kd.distillation.batches import Batch
from internal_kd.distillation.declarations import KINDS
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.recording import RecordingReader, as_recorded
from internal_kd.distillation.recording_size import stored
from internal_kd.distillation.specialists import combined
from internal_kd.errors import UserError
from internal_kd.learners.learner import Captured, Network, Wanted
from internal_kd.learners.rows import row_ids

Combine = Literal["mean_probabilities", "mean_logits", "specialists"]
_LOGITS = ("logits", 0)


class Answers(Protocol):
    """Anything that answers a student's batch as a teacher."""

    def answers(self, batch: Batch, wanted: Wanted) -> Captured:
        """Return exactly what is asked for, padded like the batch, on the training's device, without gradient.

        Raises:
            UserError: it has no answer for an example, or does not hand out what is asked for.
        """


class Live:
    """A network that answers while the student trains; it is frozen, and runs only as far up as needed."""

    def __init__(self, network: Network, hardware: Hardware) -> None:
        self._network, self._hardware = network.freeze(), hardware

    def answers(self, batch: Batch, wanted: Wanted) -> Captured:
        """Return the network's outputs and internals for a batch."""
        with torch.no_grad(), self._hardware.autocast():
            captured = self._network.read(batch, wanted)
        if _LOGITS in captured:
            captured[_LOGITS] = captured[_LOGITS].float()
        return captured


class Recorded:
    """Reads what was recorded and computes what was not, as when attention maps exceed the disk budget.

    What is computed is rounded like what was recorded: the budget decides where answers come from, not what they are.

    Args:
        live: in the precision of the recording; None if everything asked for was recorded.
    """

    def __init__(self, reader: RecordingReader, live: Answers | None, hardware: Hardware) -> None:
        self._reader, self._live, self._hardware = reader, live, hardware

    def missing(self, wanted: Wanted) -> Wanted:
        """Return what of ``wanted`` was not recorded and has to be computed while training."""
        return frozenset(one for one in stored(wanted) if not self._reader.has(*one))

    def answers(self, batch: Batch, wanted: Wanted) -> Captured:
        """Return recorded and computed answers for a batch."""
        parts, missing = stored(wanted), self.missing(wanted)
        length = batch["input_ids"].shape[1] if "input_ids" in batch else 0
        device = self._hardware.device
        pinned = device.type == "cuda"
        read = self._reader.read(batch["idx"], length, parts - missing, rows=row_ids(batch), pinned=pinned)
        found = {one: tensor.to(device, non_blocking=True) for one, tensor in read.items()}
        if missing:
            if self._live is None:
                kind, layer = min(missing)
                raise UserError(f"{kind} of layer {layer} was not recorded, and no teacher is loaded to compute it")
            computed = self._live.answers(batch, missing)
            found |= {one: as_recorded(one[0], tensor) for one, tensor in computed.items()}
        return {one: found[one] if one in found else _sum_of_parts(*one, found) for one in wanted}


class Mean:
    """Several teachers as one.

    Args:
        members: at least one.
        combine: the mean of their probabilities, handed out as logits log(p), or of their logits; for one column
            (values) both are the mean of the values. Or ``specialists``, as specialists.py has it.
        internals: the member (from 0) that hands out everything but logits; None: internals are refused, since layers
            of models that were trained apart do not correspond.
        subsets: of a generalist and its specialists, the classes of each; None for the generalist.
    """

    def __init__(
        self,
        members: Sequence[Answers],
        combine: Combine,
        internals: int | None = None,
        subsets: Sequence[Sequence[int] | None] = (),
    ) -> None:
        if not members:
            raise UserError("teacher: an ensemble of no member answers nothing; name at least one")
        self._members, self._combine, self._internals = list(members), combine, internals
        self._subsets = subsets

    def answers(self, batch: Batch, wanted: Wanted) -> Captured:
        """Return the combined logits and one member's internals."""
        inner = wanted - {_LOGITS}
        if inner and self._internals is None:
            kind, layer = min(inner)
            raise UserError(
                f"an ensemble without `internals` hands out logits only, but a term reads {kind} of layer {layer}"
            )
        found: Captured = {}
        every: list[Tensor] = []
        for number, member in enumerate(self._members):
            asked = (wanted & {_LOGITS}) | (inner if number == self._internals else frozenset())
            if not asked:
                continue
            answered = member.answers(batch, asked)
            if _LOGITS in answered:
                every.append(answered.pop(_LOGITS).float())
            found |= answered
        if every:
            found[_LOGITS] = self._combined(torch.stack(every))
        return found

    def _combined(self, logits: Tensor) -> Tensor:
        return combined(logits, self._subsets) if self._combine == "specialists" else mean_answer(logits, self._combine)


def mean_answer(logits: Tensor, combine: Combine) -> Tensor:
    """Combine several teachers' logits (members, B, C) into one's (B, C).

    Example:
        >>> mean_answer(torch.tensor([[[0.0, 0.0]], [[2.0, 4.0]]]), "mean_logits")
        tensor([[1., 2.]])
    """
    if combine == "mean_logits" or logits.shape[-1] == 1:
        return logits.mean(0)
    return F.log_softmax(logits, dim=-1).logsumexp(0) - math.log(len(logits))


def _sum_of_parts(kind: str, layer: int, found: Captured) -> Tensor:
    first, second = (found[part, layer].float() for part in KINDS[kind].made_of)
    # attention (B, H, n, n) and attention_lse (B, H, n), one value for each row.
    return first + second.unsqueeze(-1)
