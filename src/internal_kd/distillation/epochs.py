"""The book a training keeps: every epoch's stage, loss terms, dev scores and speed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback

from internal_kd.distillation.checkpoints import StopRequest, refuse_broken_weights
from internal_kd.distillation.curricula import Climb
from internal_kd.distillation.loss_terms import LossTerms
from internal_kd.errors import UserError

REPORT_SECONDS = 5.0

# Told the history after every epoch; after a checkpoint it begins with the epochs from before.
OnEpoch = Callable[[Sequence[dict[str, Any]]], None]


class DevScorer(Protocol):
    """Scores the model being trained on the dev set."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the scores."""
        ...

    def scores(self) -> dict[str, float | None]:
        """Return the present scores by metric; None where a metric is not defined."""
        ...


class EpochBook(TrainerCallback):
    """Sums what each batch says, and at an epoch's end writes a line of history and moves the curriculum on.

    Sums stay on the device until the epoch ends, so that keeping the book never makes a GPU wait.
    """

    def __init__(
        self,
        climb: Climb,
        epochs: int,
        scorer: DevScorer,
        report: Callable[[dict[str, Any]], None],
        checkpoint_due: Callable[[], bool],
        stop: StopRequest,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        """``scorer``, ``report`` and ``on_epoch`` as in ``trainer.train``."""
        self._checkpoint_due, self._stop = checkpoint_due, stop
        self._on_epoch = on_epoch
        self._restored: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self.decay_start: int | None = 0 if climb.stage.last else None
        self._climb, self._epochs, self._scorer, self._report = climb, epochs, scorer, report
        self._reported, self._resumed_at = 0.0, 0
        self._real: Tensor
        self._clear()

    @property
    def examples_per_second(self) -> float:
        """Training speed over all epochs, dev scoring left out."""
        seconds = sum(epoch["seconds"] for epoch in self.history)
        return sum(epoch["examples_per_second"] * epoch["seconds"] for epoch in self.history) / max(seconds, 1e-9)

    @property
    def seconds_trained(self) -> float:
        """What the epochs took, of the one a checkpoint interrupted what it took till then; dev scoring left out."""
        unfinished = self._restored["elapsed"] if self._restored else 0.0
        return float(sum(epoch["seconds"] for epoch in self.history) + unfinished)

    def add(self, terms: LossTerms, examples: float) -> None:
        """Count the terms of a (micro-)batch of ``examples`` examples."""
        for name, value in terms.output.items():
            self._sums[name] = self._sums[name] + value * examples
        for name, layers in terms.layers.items():
            for layer, value in layers.items():
                self._layer_sums[name][layer] = self._layer_sums[name][layer] + value * examples

    def add_batch(self, attention_mask: Tensor, total: Tensor) -> None:
        """Count a whole batch: its loss, its real and its padded tokens."""
        self._examples += len(attention_mask)
        self._padded += attention_mask.numel()
        self._real = self._real + attention_mask.sum()
        self._sums["loss"] = self._sums["loss"] + total * len(attention_mask)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the step of the checkpoint, if there is one."""
        self._resumed_at = state.global_step

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock, or go on with the sums of a checkpoint."""
        self._clear()
        if self._restored is not None:
            self._take_up(self._restored)
            self._restored = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the progress now and then, and stop a training whose loss is no number."""
        # The last step of an epoch is followed by on_epoch_end, which belongs into the checkpoint too.
        if self._inside_epoch(state):
            self._save_or_stop(control, state.global_step)
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and state.global_step != state.max_steps:
            return
        self._reported = now
        self._refuse_nan(state.global_step)
        progress = {"epoch": len(self.history) + 1, "epochs": self._epochs}
        progress |= {"step": state.global_step, "steps": state.max_steps, "resumed_at": self._resumed_at}
        self._report(progress)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the epoch's line and move the curriculum on; an epoch cut short by a signal has no end."""
        if self._inside_epoch(state):
            return
        self._refuse_nan(state.global_step)
        seconds = time.monotonic() - self._started
        # Before they are scored; after the last epoch there is no step whose loss would show what has become of them.
        refuse_broken_weights(kwargs["model"].state_dict(), state.global_step)
        stage = self._climb.stage
        line: dict[str, Any] = {"epoch": len(self.history) + 1, "stage": stage.name}
        line |= {name: float(value) / self._examples for name, value in self._sums.items()}
        for name, layers in self._layer_sums.items():
            by_layer = {str(layer): float(value) / self._examples for layer, value in sorted(layers.items())}
            line |= {name: sum(by_layer.values()) / len(by_layer), f"{name}_by_layer": by_layer}
        line["learning_rate"] = float(kwargs["lr_scheduler"].get_last_lr()[0])
        line |= {"examples_per_second": self._examples / seconds, "seconds": seconds}
        line["padded_per_real"] = self._padded / max(1, int(self._real))
        # While the classification loss does not count the head is untrained and its score would say nothing.
        scores = self._scorer.scores() if stage.classification else dict.fromkeys(self._scorer.metrics)
        self.history.append({**line, **{f"dev_{name}": value for name, value in scores.items()}})
        if self._on_epoch is not None:
            self._on_epoch(self.history)
        if self._climb.end_epoch(line.get("cls_cosine")) and self._climb.stage.last:
            self.decay_start = state.global_step
        self._clear()
        if len(self.history) < self._epochs:
            self._save_or_stop(control, state.global_step)

    def state(self) -> dict[str, Any]:
        """Return everything the book knows as plain numbers, for a checkpoint."""
        return {
            "history": self.history,
            "decay_start": self.decay_start,
            "climb": [self._climb.position, self._climb.epochs_here],
            "sums": {name: float(value) for name, value in self._sums.items()},
            "layer_sums": {
                name: {str(layer): float(value) for layer, value in layers.items()}
                for name, layers in self._layer_sums.items()
            },
            "counts": [self._examples, self._padded, int(self._real)],
            "elapsed": time.monotonic() - self._started,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state; the sums of its unfinished epoch come back when the epoch begins."""
        self.history, self.decay_start = state["history"], state["decay_start"]
        self._climb.position, self._climb.epochs_here = state["climb"]
        self._restored = state

    def _take_up(self, state: dict[str, Any]) -> None:
        # fp32 tensors, as they were when they were written down: the sums go on with the same rounding.
        self._sums.update({name: torch.tensor(value) for name, value in state["sums"].items()})
        for name, layers in state["layer_sums"].items():
            self._layer_sums[name].update({int(layer): torch.tensor(value) for layer, value in layers.items()})
        self._examples, self._padded, real = state["counts"]
        self._real = torch.tensor(real)
        self._started = time.monotonic() - state["elapsed"]

    def _inside_epoch(self, state: Any) -> bool:
        return state.global_step % (state.max_steps // self._epochs) != 0

    def _save_or_stop(self, control: Any, step: int) -> None:
        if self._stop.signal is not None or self._checkpoint_due():
            self._refuse_nan(step)  # a checkpoint of such a training would replace the last good one
        if self._stop.signal is not None:
            control.should_save = control.should_training_stop = True
        elif self._checkpoint_due():
            control.should_save = True

    def _refuse_nan(self, step: int) -> None:
        if torch.isfinite(torch.as_tensor(self._sums["loss"])):
            return
        broken = [name for name, value in self._sums.items() if not torch.isfinite(torch.as_tensor(value))]
        for name, layers in self._layer_sums.items():
            broken += [f"{name} of layer {i}" for i, value in layers.items() if not torch.isfinite(value)]
        raise UserError(
            f"the loss is no longer a number at step {step}, epoch {len(self.history) + 1} ({', '.join(broken)}): "
            "lower the learning rate, or set precision: fp32"
        )

    def _clear(self) -> None:
        self._sums: dict[str, Any] = defaultdict(float)
        self._layer_sums: dict[str, dict[int, Any]] = defaultdict(lambda: defaultdict(float))
        self._examples, self._padded = 0, 0
        self._real = torch.zeros((), dtype=torch.int64)
        self._started = time.monotonic()
