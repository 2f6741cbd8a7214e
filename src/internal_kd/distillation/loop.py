"""The one training loop: teachers, fine-tuned and distilled students, whatever kind of network, go through ``train``.

They differ in the terms of the loss alone. One step: make a batch from a length bucket; compute its loss in parts that
fit the device; clip; step the optimizer. One epoch: score the dev set, write a line of history, move the curriculum on.

Seeds: the order of epoch e follows from (seed, e); dropout in step s of process r from (seed, s, r) and the turn,
seeded before every step, so a checkpoint needs no random state and a batch that is computed again after running out of
memory draws the same. The head is drawn where the network is built. The global random state is left as it was.

Several processes (`accelerate launch`) share every batch: each computes its part, gradients are added up, so weights
agree with those of one process up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internal_kd.distillation.augmenting import augmented
from internal_kd.distillation.batches import Batch, Examples, LengthBuckets, parts_of
from internal_kd.distillation.checkpoints import (
    CheckpointFolder,
    StopRequest,
    load_tensors,
    read_state,
    refuse_broken_weights,
    tensors_of,
)
from internal_kd.distillation.curricula import CurriculumState, Stage, epochs_of
from internal_kd.distillation.hardware import Hardware, halved
from internal_kd.distillation.history import Clock, DevScorer, EpochSums, Line, OnEpoch, log_line
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.distillation.optimizing import LearningRate, TrainingParams, make_optimizer
from internal_kd.errors import Interrupted, UserError
from internal_kd.learners.learner import Network
from internal_kd.learners.quick import freed_memory_kept, quick_on_cpu

REPORT_SECONDS = 5.0
# Several processes agree this often on whether to stop or to write a checkpoint.
AGREE_STEPS = 10


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training reports.

    Attributes:
        history: a line for every epoch.
        micro_batch_size: examples computed at once in the end.
        accumulation: how many of those make a batch.
        examples_per_second: of all epochs, dev scoring left out.
    """

    history: list[Line]
    micro_batch_size: int
    accumulation: int
    examples_per_second: float


def train(
    network: Network,
    loss: DistillationLoss,
    *,
    examples: Examples,
    positions: np.ndarray,
    curriculum: CurriculumState,
    training: TrainingParams,
    seed: int,
    hardware: Hardware,
    scorer: DevScorer | None = None,
    scratch: Path | None = None,
    checkpoint_minutes: float = 10.0,
    report: Callable[[dict[str, int]], None] | None = None,
    on_epoch: OnEpoch | None = None,
    log: Callable[[str], None] | None = None,
    clock: Clock | None = None,
) -> TrainingResult:
    """Train a network in place on some examples and return the history.

    Args:
        scorer: asked after every epoch in which terms on the outputs counted; None: nothing is scored.
        scratch: folder for checkpoints, written every ``checkpoint_minutes`` and on SIGTERM or SIGINT; the next call
            goes on from the newest and ends with the same weights as if it had never stopped. None: no checkpoints.
        report: called every few seconds with {epoch, epochs, step, steps, resumed_at}.
        on_epoch: called with the history after every epoch.
        log: called with a line after every epoch; None: it is printed.
        clock: counts the time of this attempt and of those before it.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is written.
        UserError: there is no example, the loss (step and terms are named) or a weight is no longer a number, or
            memory ran out with one example at a time.

    Example:
        >>> train(network, loss, examples=examples, positions=np.arange(len(examples)),
        ...       curriculum=CurriculumState(stages_of("all", "top", ())), training=TrainingParams(epochs=3),
        ...       seed=1, hardware=choose_hardware("auto")).history[-1]["loss"]  # doctest: +SKIP
    """
    if not len(positions):
        raise UserError("there is no example to train on")
    hardware.place(network.module)
    vocabulary = examples.vocabulary(positions) if hasattr(examples, "vocabulary") else None
    checkpoints = CheckpointFolder(scratch, checkpoint_minutes) if scratch else None
    stop = StopRequest()
    with ExitStack() as stack, freed_memory_kept(hardware.device), _random_state_kept(hardware), stop.listening():
        for part in network.parts:
            stack.enter_context(quick_on_cpu(part, vocabulary))
        loop = _Loop(
            network, loss, examples, positions, curriculum, training, seed, hardware, scorer, checkpoints, stop,
            report, on_epoch, log or _print, clock or Clock(),
        )  # fmt: skip
        loop.resume()
        while len(loop.history) < loop.epochs:
            loop.run_epoch()
    seconds = sum(line["seconds"] for line in loop.history)
    trained = sum(line["examples_per_second"] * line["seconds"] for line in loop.history)
    accumulation = -(-training.batch_size // loop.micro_batch_size)
    return TrainingResult(loop.history, loop.micro_batch_size, accumulation, trained / max(seconds, 1e-9))


@dataclass
class _Loop:
    """A training and where it stands."""

    network: Network
    loss: DistillationLoss
    examples: Examples
    positions: np.ndarray
    curriculum: CurriculumState
    training: TrainingParams
    seed: int
    hardware: Hardware
    scorer: DevScorer | None
    checkpoints: CheckpointFolder | None
    stop: StopRequest
    report: Callable[[dict[str, int]], None] | None
    on_epoch: OnEpoch | None
    log: Callable[[str], None]
    clock: Clock

    def __post_init__(self) -> None:
        self.lengths = np.asarray(self.examples.lengths)[self.positions]
        self.optimizer = make_optimizer((self.network.module, self.loss), self.training)
        self.weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        stages = self.curriculum.stages
        self.epochs = epochs_of(stages, self.training.epochs)
        lasting = stages if all(stage.epochs is not None for stage in stages) else stages[-1:]
        self.steps = sum((stage.epochs or self.epochs) * len(self.buckets_of(stage)) for stage in lasting)
        self.history: list[Line] = []
        self.step, self.batch, self.resumed_at, self.reported = 0, 0, 0, 0.0
        self.micro_batch_size = self.training.batch_size
        self.sums = EpochSums()
        self.attempt_started = self.epoch_started = time.monotonic()
        self.begin_stage()

    # One epoch, one step

    def run_epoch(self) -> None:
        """Train on the batches of an epoch, or on those that a checkpoint left; then write a line of history."""
        self.network.module.train()
        stage = self.curriculum.stage
        batches = self.buckets_of(stage).epoch(len(self.history))
        for chosen in batches[self.batch :]:
            batch = self.examples.batch(self.positions[chosen])
            self.run_step(augmented(batch, self.training.augment, self.seed, self.step), stage)
            self.step, self.batch = self.step + 1, self.batch + 1
            if self.batch < len(batches):
                self.save_or_stop()
            self.report_now_and_then()
        self.end_epoch(stage)

    def run_step(self, batch: Batch, stage: Stage) -> None:
        """Train on a batch; of two that teach each other each steps in turn, with the other's newest answers."""
        totals = []
        for turn in range(self.network.turns):
            self.network.turn = turn
            totals.append(self.take_step(batch, stage))
        self.loss.follow(self.step)
        self.sums.add_batch(torch.stack(totals).mean(), batch, counted=self.hardware.rank == 0)

    def take_step(self, batch: Batch, stage: Stage) -> torch.Tensor:
        """Compute a batch's gradients and step; out of memory, halve the micro-batch and compute the batch again."""
        while True:
            try:
                total = self.compute_gradients(batch, stage)
                break
            except torch.OutOfMemoryError:
                self.micro_batch_size = halved(self.micro_batch_size)
            # Outside the handler: the exception holds the failed graph alive.
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()
        self.hardware.add_gradients(self.weights)
        torch.nn.utils.clip_grad_norm_(self.weights, self.training.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate.at(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.network.constrain()
        return total

    def compute_gradients(self, batch: Batch, stage: Stage) -> torch.Tensor:
        """Return the loss of a batch, computed part by part; its terms are counted once all parts are done.

        A network of several sub-networks computes every part with each, and the loss is their sum.
        """
        own = self.hardware.rank + self.hardware.world * self.network.turn
        torch.manual_seed(_step_seed(self.seed, self.step, own))
        total = torch.zeros((), device=self.hardware.device)
        done = []
        for part in parts_of(batch, self.micro_batch_size, rank=self.hardware.rank, world=self.hardware.world):
            placed = part.to(self.hardware.device)
            for number in range(self.network.passes):
                self.network.current = number
                terms = self.loss.compute(placed, stage, self.step / self.steps)
                if terms.total.requires_grad:
                    terms.total.backward()
                terms.total = terms.total.detach()
                total += terms.total
                done.append(terms)
        for terms in done:
            self.sums.add(terms)
        return total

    def end_epoch(self, stage: Stage) -> None:
        """Score, write the epoch's line of history, move the curriculum on."""
        self.sums = EpochSums.of(self.hardware.device, self.hardware.gather(self.sums.state()))
        epoch, seconds = len(self.history) + 1, time.monotonic() - self.epoch_started
        self.sums.refuse_nan(self.step, epoch)
        # Before they are scored; after the last epoch there is no step whose loss would show what became of them.
        refuse_broken_weights(self.network.module.state_dict(), self.step)
        line = {"epoch": epoch, "stage": stage.name, **self.sums.means(), "learning_rate": self.rate.at(self.step)}
        line |= {"examples_per_second": self.sums.examples / seconds, "seconds": seconds}
        self.history.append({**line, **self.dev_scores(stage)})
        if self.curriculum.end_epoch(line.get("cls_cosine")):
            self.begin_stage()
        self.sums, self.batch, self.epoch_started = EpochSums(), 0, time.monotonic()
        if self.hardware.rank == 0:
            metrics = self.scorer.metrics if self.scorer else ()
            self.log(log_line(self.history[-1], self.epochs, metrics, self.seconds_left()))
            if self.on_epoch:
                self.on_epoch(self.history)
        if epoch < self.epochs:
            self.save_or_stop()

    def dev_scores(self, stage: Stage) -> Line:
        """Return the dev scores; None each while no term trains the head, whose score would mean nothing."""
        if self.scorer is None or self.hardware.rank:
            return {}
        scores = self.scorer.scores() if stage.output_terms else dict.fromkeys(self.scorer.metrics)
        return {f"dev_{name}": value for name, value in scores.items()}

    # Stages

    def begin_stage(self) -> None:
        """Set the learning rate's course; a stage that restarts has an optimizer and a course of its own."""
        stage, training = self.curriculum.stage, self.training
        highest = stage.learning_rate or training.learning_rate
        if stage.restarts:
            self.optimizer.state.clear()
            steps = (stage.epochs or self.epochs) * len(self.buckets_of(stage))
            self.rate = LearningRate(highest, training.warmup_share, self.step, steps, self.step)
            return
        if self.step == 0:
            self.rate = LearningRate(highest, training.warmup_share, 0, self.steps, None)
        if stage.last:
            self.rate.decay_start = self.step

    def buckets_of(self, stage: Stage) -> LengthBuckets:
        """Return the batches of a stage."""
        size = stage.batch_size or self.training.batch_size
        return LengthBuckets(self.lengths, size, self.seed, self.training.steps_per_epoch)

    # Checkpoints and progress

    def save_or_stop(self) -> None:
        """Write a checkpoint when one is due or a signal came; after a signal, stop."""
        if self.hardware.world > 1 and self.step % AGREE_STEPS and self.batch:
            return
        due = self.checkpoints is not None and self.checkpoints.due()
        agreed = self.hardware.gather((due, self.stop.signal))
        signals = [signal for _, signal in agreed if signal is not None]
        if not (agreed[0][0] or signals):
            return
        self.sums.refuse_nan(self.step, len(self.history) + 1)  # such a checkpoint would replace the last good one
        sums = self.hardware.gather(self.sums.state())
        if self.checkpoints is not None and self.hardware.rank == 0:
            tensors = tensors_of(self.network.module, self.optimizer, self.loss)
            self.checkpoints.write(self.step, tensors, {**self.state(), "sums": sums})
        if signals:
            way_out = "start again to go on from there" if self.checkpoints else "nothing was kept"
            raise Interrupted(f"stopped by {signals[0].name} at step {self.step}; {way_out}")

    def state(self) -> dict[str, Any]:
        """Return everything but tensors and sums as plain values."""
        return {
            "history": self.history,
            "batch": self.batch,
            "curriculum": self.curriculum.state(),
            "rate": asdict(self.rate),
            "micro_batch_size": self.micro_batch_size,
            "epoch_seconds": time.monotonic() - self.epoch_started,
            "clock": self.clock.state(),
        }

    def resume(self) -> None:
        """Go on from the newest complete checkpoint, if there is one."""
        checkpoint = self.checkpoints.newest() if self.checkpoints else None
        if checkpoint is None:
            return
        self.log(f"going on from {checkpoint}")
        state = read_state(checkpoint)
        load_tensors(checkpoint, self.network.module, self.optimizer, self.loss)
        self.step = self.resumed_at = state["step"]
        self.history, self.batch, self.micro_batch_size = state["history"], state["batch"], state["micro_batch_size"]
        self.curriculum.restore(state["curriculum"])
        self.rate = LearningRate(**state["rate"])
        # One process goes on with the sums of all: they are added up at the end of the epoch.
        self.sums = EpochSums.of(self.hardware.device, [] if self.hardware.rank else state["sums"])
        self.epoch_started = time.monotonic() - state["epoch_seconds"]
        self.clock.restore(state["clock"])

    def report_now_and_then(self) -> None:
        """Report the progress every few seconds, and stop a training whose loss is no longer a number."""
        now = time.monotonic()
        if self.hardware.rank or (now - self.reported < REPORT_SECONDS and self.step < self.steps):
            return
        self.reported = now
        epoch = len(self.history) + 1
        self.sums.refuse_nan(self.step, epoch)
        if self.report:
            steps = {"step": self.step, "steps": self.steps, "resumed_at": self.resumed_at}
            self.report({"epoch": epoch, "epochs": self.epochs, **steps})

    def seconds_left(self) -> float:
        """Estimate from this attempt's steps, dev scoring included."""
        done = self.step - self.resumed_at
        return (time.monotonic() - self.attempt_started) / max(1, done) * (self.steps - self.step)


@contextmanager
def _random_state_kept(hardware: Hardware) -> Iterator[None]:
    """Leave torch's global random state as it was: the loop seeds it before every step."""
    devices = [hardware.device] if hardware.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield


def _step_seed(seed: int, step: int, own: int) -> int:
    """Return the seed of a step's dropout, in no visible order."""
    return int(np.random.SeedSequence([seed, step, own]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _print(line: str) -> None:
    print(line, flush=True)
