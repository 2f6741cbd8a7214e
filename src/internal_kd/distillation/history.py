"""What a training records of each epoch, and how long it has taken over all its attempts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import torch
from torch import Tensor

from internal_kd.distillation.batches import Batch
from internal_kd.distillation.loss import LossTerms
from internal_kd.errors import UserError

Line = dict[str, Any]
# Called with the whole history after every epoch; after a checkpoint it begins with the epochs before it.
OnEpoch = Callable[[Sequence[Line]], None]


class DevScorer(Protocol):
    """Scores the network being trained on the dev set."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the scores, the main one first."""

    def scores(self) -> dict[str, float | None]:
        """Return the present scores by metric; None where a metric is not defined."""


class EpochSums:
    """Sums of an epoch's loss terms. They stay on the device, so that keeping them never makes a GPU wait.

    A term is a key: its name, with its student layer where it has one.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int | None], Any] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._real: Any = 0
        self._padded, self.examples = 0, 0

    def add(self, terms: LossTerms) -> None:
        """Count the terms of a part of a batch."""
        for name, value in terms.output.items():
            self._sums[name, None] = self._sums[name, None] + value * terms.counts[name]
        for name, layers in terms.layers.items():
            for layer, value in layers.items():
                self._sums[name, layer] = self._sums[name, layer] + value * terms.counts[name]
        for name, count in terms.counts.items():
            self._counts[name] += count

    def add_batch(self, total: Tensor, batch: Batch, *, counted: bool = True) -> None:
        """Count a batch: its loss, its examples, its real and padded tokens.

        Of several processes that share a batch each adds its share of the loss, and one is ``counted``.
        """
        examples = len(batch["idx"])
        self._sums["loss", None] = self._sums["loss", None] + total * examples
        if not counted:
            return
        self._counts["loss"] += examples
        self.examples += examples
        if (mask := batch.get("attention_mask")) is not None:
            self._padded += mask.numel()
            self._real += int(mask.sum())

    def means(self) -> Line:
        """Return the means so far, as a line of history has them: loss, terms, ``<term>_by_layer``, padded_per_real."""
        means = {key: float(value) / max(1, self._counts[key[0]]) for key, value in self._sums.items()}
        line: Line = {name: mean for (name, layer), mean in means.items() if layer is None}
        for name in dict.fromkeys(name for name, layer in means if layer is not None):
            layers = sorted(layer for at, layer in means if at == name and layer is not None)
            by_layer = {str(layer): means[name, layer] for layer in layers}
            line |= {name: sum(by_layer.values()) / len(by_layer), f"{name}_by_layer": by_layer}
        if self._padded:
            line["padded_per_real"] = self._padded / max(1, int(self._real))
        return line

    def refuse_nan(self, step: int, epoch: int) -> None:
        """Stop a training whose loss is no longer a number.

        Raises:
            UserError: names the step, the epoch and the terms.
        """
        if torch.isfinite(torch.as_tensor(self._sums["loss", None])):
            return
        broken = [
            name if layer is None else f"{name} of layer {layer}"
            for (name, layer), value in self._sums.items()
            if not torch.isfinite(torch.as_tensor(value))
        ]
        raise UserError(
            f"the loss is no longer a number at step {step}, epoch {epoch} ({', '.join(broken)}): lower the learning "
            "rate, or set precision: fp32"
        )

    def state(self) -> Line:
        """Return the sums as plain numbers, for a checkpoint."""
        return {
            "sums": [[name, layer, float(value)] for (name, layer), value in self._sums.items()],
            "counts": dict(self._counts),
            "tokens": [self._padded, int(self._real)],
            "examples": self.examples,
        }

    @classmethod
    def of(cls, device: torch.device, states: Sequence[Line]) -> EpochSums:
        """Return the sums of a checkpoint, or of several processes added up."""
        made = cls()
        for state in states:
            for name, layer, value in state["sums"]:
                # fp32 tensors, as they were when they were written: the sums go on with the same rounding.
                made._sums[name, layer] = made._sums[name, layer] + torch.tensor(value, device=device)
            for name, count in state["counts"].items():
                made._counts[name] += count
            made._padded += state["tokens"][0]
            made._real += state["tokens"][1]
            made.examples += state["examples"]
        return made


class Clock:
    """The time of one training, counted on from where its checkpoint left off.

    What lies between two attempts does not count, nor what an attempt that was killed did after its last checkpoint.
    """

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self._here, self._before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """The time taken so far, earlier attempts included."""
        return self._before + time.monotonic() - self._here

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"started": self.started.isoformat(), "seconds": self.seconds}

    def restore(self, state: dict[str, Any]) -> None:
        """Count on from a checkpoint."""
        self._before, self.started = float(state["seconds"]), datetime.fromisoformat(state["started"])


def log_line(line: Line, epochs: int, metrics: Sequence[str], seconds_left: float) -> str:
    """Return what a training prints after an epoch.

    Example:
        >>> line = {"epoch": 2, "stage": "layers 1-2", "loss": 0.41234, "dev_accuracy": 0.81}
        >>> log_line(line, 10, ("accuracy",), 125)
        'epoch 2/10 (layers 1-2): loss 0.4123, dev accuracy 0.8100, 2 min left'
    """
    scores = [f"dev {name} {line[f'dev_{name}']:.4f}" for name in metrics if line.get(f"dev_{name}") is not None]
    left = [f"{_duration(seconds_left)} left"] if line["epoch"] < epochs else []
    facts = ", ".join([f"loss {line['loss']:.4f}", *scores, *left])
    return f"epoch {line['epoch']}/{epochs} ({line['stage']}): {facts}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
