"""Fine-tune the pre-trained encoder on a task: the teacher, row 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_kd.artefacts import TeacherRun
from internal_kd.params.study import MachineParams

if TYPE_CHECKING:
    from internal_kd.distillation.epochs import OnEpoch

# Raised when the same parameters and inputs give another result.
RECIPE = 2


def train_teacher(run: TeacherRun, machine: MachineParams, *, on_epoch: OnEpoch | None = None) -> None:
    """Train and write ``results/runs/teachers/...``; ``on_epoch`` as in ``trainer.train``.

    Raises:
        UserError: the loss became NaN, memory ran out, or the disk is full.
    """
    import numpy as np
    from transformers import set_seed

    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.curricula import Climb, stages_of
    from internal_kd.distillation.hardware import choose_hardware
    from internal_kd.distillation.loss_terms import DistillationLoss
    from internal_kd.distillation.trainer import train
    from internal_kd.models.classifiers import load_classifier
    from internal_kd.steps.finishing import DevSet, Stopwatch, write_run

    watch = Stopwatch(run)
    hardware = choose_hardware(run.training.precision)
    tokens = TokenStore.of(run.tokens)
    split = tokens.split("train")
    set_seed(run.seed)
    model = load_classifier(run.encoder.folder, tokens.classes, seed=run.seed, new_head=True)
    result = train(
        model,
        DistillationLoss(model, None, {"hard": 1.0}, (), 1.0, hardware),
        split=split,
        positions=np.arange(len(split)),
        climb=Climb(stages_of("all", "top", 0), epochs_per_layer=1, cosine_threshold=0.0),
        training=run.training,
        seed=run.seed,
        hardware=hardware,
        scratch=run.checkpoints,
        checkpoint_minutes=machine.checkpoint_minutes,
        scorer=DevSet(model, tokens, hardware),
        report=watch.report,
        on_epoch=on_epoch,
        clock=watch.clock,
    )
    write_run(run, model, tokens, hardware, result, watch, keep_model=True)
