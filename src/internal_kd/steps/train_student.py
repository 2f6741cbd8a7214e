"""Train one student by one method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from internal_kd.artefacts import StudentRun
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.errors import UserError
from internal_kd.files import read_json
from internal_kd.models.layers import layer_map
from internal_kd.params.study import MachineParams

if TYPE_CHECKING:
    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.epochs import OnEpoch
    from internal_kd.distillation.hardware import Hardware
    from internal_kd.distillation.teachers import RecordedTeacher

# Raised when the same parameters and inputs give another result.
RECIPE = 2


def train_student(
    run: StudentRun, machine: MachineParams, *, keep_model: bool = True, on_epoch: OnEpoch | None = None
) -> None:
    """Train and write ``results/runs/students/...``; ``on_epoch`` as in ``trainer.train``.

    Raises:
        UserError: more examples are asked for than there are, the loss became NaN, memory ran out, the disk is full.
    """
    import numpy as np
    from transformers import set_seed

    from internal_kd.data.batches import nested_subset
    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.curricula import Climb, stages_of
    from internal_kd.distillation.hardware import choose_hardware
    from internal_kd.distillation.loss_terms import DistillationLoss
    from internal_kd.distillation.trainer import train
    from internal_kd.models.classifiers import load_classifier
    from internal_kd.steps.finishing import DevSet, Stopwatch, write_run

    watch = Stopwatch(run)
    settings = run.method.settings
    hardware = choose_hardware(settings.precision)
    tokens = TokenStore.of(run.tokens)
    split = tokens.split("train")
    if run.examples != "full" and run.examples > len(split):
        raise UserError(f"study.examples: {run.examples} are more than the {len(split)} of {run.task}; say 'full'")
    everything = np.arange(len(split))
    positions = everything if run.examples == "full" else nested_subset(np.asarray(split.idx), run.examples)
    set_seed(run.seed)
    model = load_classifier(run.initial.folder / "model", tokens.classes, seed=run.seed)
    teacher_layers = read_json(run.encoder.marker)["layers"]
    matched = layer_map(settings.layer_map, teacher_layers, run.depth) if run.method.layer_terms else ()
    teacher = _open_teacher(run, tokens, matched, hardware) if run.outputs else None
    loss = DistillationLoss(model, teacher, run.method.weights, matched, settings.temperature, hardware)
    stages = stages_of(run.method.curriculum, run.method.classification, run.depth)
    result = train(
        model,
        loss,
        split=split,
        positions=positions,
        climb=Climb(stages, settings.epochs_per_layer, settings.cosine_threshold),
        training=settings,
        seed=run.seed,
        hardware=hardware,
        scratch=run.checkpoints,
        checkpoint_minutes=machine.checkpoint_minutes,
        scorer=DevSet(model, tokens, hardware),
        report=watch.report,
        on_epoch=on_epoch,
        clock=watch.clock,
    )
    write_run(run, model, tokens, hardware, result, watch, keep_model=keep_model)


def _open_teacher(run: StudentRun, tokens: TokenStore, matched: tuple[int, ...], hardware: Hardware) -> RecordedTeacher:
    from internal_kd.distillation.hardware import precision_on
    from internal_kd.distillation.teacher_outputs import TeacherOutputsReader
    from internal_kd.distillation.teachers import ComputedTeacher, RecordedTeacher, missing_attention
    from internal_kd.models.classifiers import freeze_teacher, load_classifier

    assert run.outputs is not None
    reader = TeacherOutputsReader(run.outputs.folder)
    computed = None
    if any(OBJECTIVES[term].reads == "attention" for term in run.method.layer_terms) and missing_attention(
        reader, matched
    ):
        model = freeze_teacher(load_classifier(run.outputs.teacher.folder / "model", tokens.classes))
        hardware.place(model)
        # A recording is in the teacher's precision, which need not be the student's.
        precision = precision_on(hardware.device, run.outputs.teacher.training.precision)
        computed = ComputedTeacher(model, replace(hardware, precision=precision))
    return RecordedTeacher(reader, computed, hardware)
