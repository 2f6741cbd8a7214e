"""The one training loop: transformers' Trainer with our loss, our curriculum and our batches.

Teachers, fine-tuned students and distilled students all go through ``train``; they differ in the loss terms alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments

from internal_kd.distillation.checkpoints import (
    CheckpointFolder,
    StopRequest,
    load_optimizer,
    read_state,
    read_tensors,
    restore_random_state,
)
from internal_kd.distillation.clock import Clock
from internal_kd.distillation.curricula import Climb
from internal_kd.distillation.epochs import DevScorer, EpochBook, OnEpoch
from internal_kd.distillation.hardware import Hardware, halved
from internal_kd.distillation.loss_terms import DistillationLoss, LossTerms
from internal_kd.errors import Interrupted
from internal_kd.models.attention import record_internals
from internal_kd.models.dropout import use_quick_dropout
from internal_kd.models.vocabulary import training_used_rows
from internal_kd.params.training import TrainingParams

if TYPE_CHECKING:
    import numpy as np

    from internal_kd.data.batches import LengthBuckets
    from internal_kd.data.tokens import TokenSplit


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training reports."""

    history: list[dict[str, Any]]
    micro_batch_size: int
    accumulation: int
    examples_per_second: float


class _Positions(torch.utils.data.Dataset[int]):
    """The positions of a training set; the collating function turns lists of them into batches."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> int:
        return position


class DistillationTrainer(Trainer):
    """Trainer whose loss is a ``DistillationLoss``, with batches from length buckets and checkpoints without pickle."""

    # Our loss is a mean over the whole batch, whatever the number of micro-batches it was computed in.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        loss: DistillationLoss,
        split: TokenSplit,
        positions: np.ndarray,
        buckets: LengthBuckets,
        climb: Climb,
        book: EpochBook,
        hardware: Hardware,
        training: TrainingParams,
        checkpoints: CheckpointFolder,
        clock: Clock,
    ) -> None:
        """``positions`` are the examples of ``split`` that are trained on; ``buckets`` indexes into them."""
        super().__init__(model=model, args=args, callbacks=[book])
        self.remove_callback(PrinterCallback)  # the book says it all
        self._loss, self._split, self._positions, self._buckets = loss, split, positions, buckets
        self._climb, self._book, self._hardware = climb, book, hardware
        self.micro_batch_size = training.batch_size
        self._warmup_share = training.warmup_share
        self._checkpoints, self._clock = checkpoints, clock

    def get_train_dataloader(self) -> DataLoader:
        """Return batches in the order of the buckets."""

        def collate(chosen: list[int]) -> dict[str, Tensor]:
            return self._split.batch(self._positions[chosen])

        dataset = _Positions(len(self._positions))
        loader = DataLoader(
            dataset,
            batch_sampler=self._buckets,
            collate_fn=collate,
            pin_memory=self._hardware.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm up, hold while the curriculum climbs, then decay linearly to zero [hold: ours]."""
        if self.lr_scheduler is None:
            assert self.optimizer is not None
            warmup = round(self._warmup_share * num_training_steps)
            book = self._book

            def factor(step: int) -> float:
                if step < warmup:
                    return (step + 1) / (warmup + 1)
                start = book.decay_start
                if start is None:
                    return 1.0
                start = max(start, warmup)
                return max(0.0, (num_training_steps - step) / max(1, num_training_steps - start))

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        # Called by Trainer whenever the book sets control.should_save.
        assert isinstance(self.optimizer, torch.optim.Optimizer) and self.model is not None
        state = {"book": self._book.state(), "clock": self._clock.state(), "micro_batch_size": self.micro_batch_size}
        where = asdict(self.state)
        self._checkpoints.write(self.state.global_step, self.model.state_dict(), self.optimizer, state, where)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        assert self.model is not None
        self.model.load_state_dict(read_tensors(checkpoint, "model"))
        state = read_state(checkpoint)
        self.micro_batch_size = state["micro_batch_size"]
        self._book.restore(state["book"])
        self._clock.resume(state.get("clock"), self._book.seconds_trained)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        assert isinstance(self.optimizer, torch.optim.Optimizer)
        load_optimizer(self.optimizer, read_tensors(Path(checkpoint), "optimizer"))
        # The learning rate is a function of the step and the book, both restored: only the counter is put back.
        step = read_state(Path(checkpoint))["step"]
        scheduler = self.lr_scheduler
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        scheduler.last_epoch, scheduler._step_count = step, step + 1
        rates = [base * scheduler.lr_lambdas[0](step) for base in scheduler.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_random_state(read_state(Path(checkpoint))["random"], read_tensors(Path(checkpoint), "random"))

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Any = None
    ) -> Tensor:
        """Compute one batch and its gradients; out of memory, halve the micro-batch and try the batch again."""
        model.train()
        inputs = {name: tensor.to(self._hardware.device, non_blocking=True) for name, tensor in inputs.items()}
        while True:
            try:
                return self._whole_batch(inputs)
            except torch.OutOfMemoryError:
                self.micro_batch_size = halved(self.micro_batch_size)
            # Outside the handler: the exception holds the failed graph alive.
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()

    def _whole_batch(self, inputs: dict[str, Tensor]) -> Tensor:
        size = len(inputs["labels"])
        total = torch.zeros((), device=self._hardware.device)
        parts: list[tuple[LossTerms, float]] = []
        for start in range(0, size, self.micro_batch_size):
            part = {name: tensor[start : start + self.micro_batch_size] for name, tensor in inputs.items()}
            share = len(part["labels"]) / size
            terms = self._loss.compute(part, self._climb.stage)
            self.accelerator.backward(terms.total * share)
            total += terms.total.detach() * share
            parts.append((terms, share))
        for terms, share in parts:
            self._book.add(terms, share * size)
        self._book.add_batch(inputs["attention_mask"], total)
        return total


def train(
    model: PreTrainedModel,
    loss: DistillationLoss,
    *,
    split: TokenSplit,
    positions: np.ndarray,
    climb: Climb,
    training: TrainingParams,
    seed: int,
    hardware: Hardware,
    scratch: Path,
    checkpoint_minutes: float,
    scorer: DevScorer,
    report: Callable[[dict[str, Any]], None],
    on_epoch: OnEpoch | None = None,
    clock: Clock | None = None,
) -> TrainingResult:
    """Train ``model`` in place on ``positions`` of ``split`` and return its history.

    ``scorer`` is asked after every epoch in which the classification loss counted; ``report`` is told the progress
    ({epoch, epochs, step, steps, resumed_at}, the last the checkpoint's step or 0) every few seconds, ``on_epoch`` the
    whole history after every epoch. Checkpoints keep ``clock``, so that it counts the attempts before this one too.

    A checkpoint in ``scratch`` is written every ``checkpoint_minutes`` and on SIGTERM or SIGINT; the next call goes on
    from it and ends with the same weights as if it had never stopped.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is written.
        UserError: the loss became NaN or infinite (names step and terms) or a weight did, or memory ran out at
            one example a time.
    """
    from internal_kd.data.batches import LengthBuckets

    buckets = LengthBuckets(split.lengths[positions], training.batch_size, seed)
    hardware.place(model)
    record_internals(model)  # also for its quicker attention where nothing is captured
    use_quick_dropout(model)
    checkpoints, stop = CheckpointFolder(scratch, checkpoint_minutes), StopRequest()
    book = EpochBook(climb, training.epochs, scorer, report, checkpoints.due, stop, on_epoch)
    trainer = DistillationTrainer(
        model,
        _arguments(training, seed, scratch, hardware),
        loss=loss,
        split=split,
        positions=positions,
        buckets=buckets,
        climb=climb,
        book=book,
        hardware=hardware,
        training=training,
        checkpoints=checkpoints,
        clock=clock or Clock(),
    )
    checkpoint = checkpoints.newest()
    with training_used_rows(model, split.vocabulary(positions)), stop.listening():
        if checkpoint is not None:
            print(f"going on from {checkpoint}", flush=True)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.signal is not None and len(book.history) < training.epochs:
        raise Interrupted(
            f"stopped by {stop.signal.name} at step {trainer.state.global_step}; start again to go on from there"
        )
    micro = trainer.micro_batch_size
    return TrainingResult(book.history, micro, -(-training.batch_size // micro), book.examples_per_second)


def _arguments(training: TrainingParams, seed: int, scratch: Path, hardware: Hardware) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_gradient_norm,
        optim="adamw_torch_fused",
        seed=seed,
        use_cpu=hardware.device.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # one job, one GPU: DataParallel would break what is captured
    return arguments
