"""Train a learner, or take a model that somebody trained, and write the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from internal_kd.checksums import publish
from internal_kd.data.examples import manifest_of, read_task
from internal_kd.data.inputs import EncodedTask, input_shape
from internal_kd.distillation.answers import Answers as Answering
from internal_kd.distillation.answers import Live, Mean, Recorded
from internal_kd.distillation.averaging import Averaged
from internal_kd.distillation.batches import Examples, answered_by, labels_of
from internal_kd.distillation.controls import Controlled
from internal_kd.distillation.curricula import CurriculumState, stages_of
from internal_kd.distillation.hardware import Hardware, choose_hardware
from internal_kd.distillation.history import Line
from internal_kd.distillation.loop import train
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.distillation.masked_copies import copies_of
from internal_kd.distillation.recording import RecordingReader
from internal_kd.distillation.terms import Term, asked_of_teacher, compared_layers, terms_of
from internal_kd.errors import UserError
from internal_kd.files import read_mapping, staging_folder
from internal_kd.learners.layers import Pairs, layer_map
from internal_kd.learners.learner import UNTRAINED, Network, Shape, Wanted
from internal_kd.learners.weights import load_classifier, name_labels, save_classifier, seeded
from internal_kd.params.study import MachineParams
from internal_kd.plan.runs import Answers, AnswersFile, Ensemble, FirstWeights, Run
from internal_kd.plan.store import read_record, verified_folder, verifier
from internal_kd.steps.record import open_network, teacher_hardware
from internal_kd.steps.run_folder import DevSet, JobRecord, write_run
from internal_kd.steps.scores import TrainingPredictions, scores_for
from internal_kd.steps.training_examples import training_positions, with_copies
from internal_kd.tasks.info import TaskInfo

# Training examples that a network sees at a time before its first step.
_AT_ONCE = 1000


def initialize_student(first: FirstWeights) -> None:
    """Write ``work/initial/...``: of the pre-trained encoder without a head, of a run with its pooler and head.

    A head that is not in the source is drawn later, from the seed of each run.

    Raises:
        UserError: the source's weights are missing, the learner does not suit it, or the disk is full.
    """
    info = read_task(first.source.inputs.data).info if first.source else None
    outputs, kind = (info.outputs, info.kind) if info else (2, "classes")
    source = verified_folder(first.source, "model") if first.source else verified_folder(first.encoder)
    network = first.learner.build(source, outputs, first.seed or 0, kind=kind)
    with_head = first.source is not None and first.learner.starts_from != "random"
    model = cast("PreTrainedModel", network.module)
    with staging_folder(first.folder) as staged:
        save_classifier(model if with_head else cast("PreTrainedModel", model.base_model), staged / "model")
        publish(staged, first.folder, manifest_of(first))


def train_run(run: Run, machine: MachineParams, *, keep_model: bool = True) -> None:
    """Train a run and write ``results/runs/...``.

    Raises:
        UserError: more examples are asked for than there are, no example has an answer, the loss became NaN, memory
            ran out, the disk is full.
        Interrupted: a signal asked to stop; the next call goes on from the checkpoint.
    """
    job, settings = JobRecord(run), run.method.settings
    hardware = choose_hardware(settings.precision)
    data = EncodedTask.of(run.inputs)
    info, originals = data.info, data.training()
    _check_tokens(run, data)
    network = _network(run, info)
    dev = DevSet(network, data, info, hardware)
    if run.method.learner.kind in UNTRAINED:
        hardware.place(network.module)
        write_run(run, network, dev, hardware, None, job, keep_model=keep_model)
        return
    scores = scores_for(run, np.asarray(originals.idx)[originals.labelled])
    positions, held_out = training_positions(originals, settings.select, info.labels, scores)
    predictions = TrainingPredictions(run, network, originals, hardware) if run.scouts else None
    labelled = positions[originals.labelled[positions]]
    hardware.place(network.module)
    with seeded(run.seed):
        network.begin(lambda: _in_parts(originals, labelled, hardware))
    hardware.agree(network.module)
    copies = copies_of(settings.select.masked_copies, settings.select.masked_share)
    examples, (positions,) = with_copies(originals, run.inputs, [(positions, copies)])
    terms = _terms(run, network, info)
    answers, recorded = _answers(run, terms, info, hardware)
    if recorded:
        for reader, _ in recorded:
            positions = positions[answered_by(examples, reader.row_ids)[positions]]
    else:
        positions = positions[originals.labelled[positions]]
    if network.subset:
        positions = network.choose(positions, labels_of(examples, positions), run.seed)
    if not len(positions):
        raise UserError(f"{run.label}: no training example has an answer")

    def end_epoch(history: Sequence[Line]) -> None:
        if predictions:
            predictions.keep(len(history))
        job.epoch(history)

    if (teacher := run.method.teacher) and teacher.average:
        answers = Averaged(network, teacher.average, hardware)
    elif teacher and teacher.control and answers:
        temperature = settings.temperature
        answers = Controlled(answers, teacher.control, examples, positions, temperature, run.seed, hardware)
    stages = stages_of(settings.course, settings.classification, compared_layers(terms), tuple(run.method.weights))
    result = train(
        network,
        DistillationLoss(network, terms, answers, hardware, run.seed),
        examples=examples,
        positions=positions,
        curriculum=CurriculumState(stages, settings.epochs_per_layer, settings.cosine_threshold),
        training=settings,
        seed=run.seed,
        hardware=hardware,
        scratch=run.checkpoints,
        checkpoint_minutes=machine.checkpoint_minutes,
        scorer=dev if machine.score_epochs else None,
        report=job.report,
        on_epoch=end_epoch,
        clock=job.clock,
    )
    job.recorded_bytes = round(sum(reader.bytes_per_example(wanted) for reader, wanted in recorded))
    write_run(
        run, network, dev, hardware, result, job, keep_model=keep_model, held_out=(originals, held_out),
        predictions=predictions,
    )  # fmt: skip


def _network(run: Run, info: TaskInfo) -> Network:
    learner: Any = run.method.learner
    network: Network
    if learner.starts_from == "nothing":
        network = learner.build(input_shape(run.inputs), info.outputs, run.seed, labels=info.labels)
    elif not isinstance(run.first, FirstWeights):
        source = verified_folder(run.first or run.reader)
        network = learner.build(source, info.outputs, run.seed, labels=info.labels, kind=info.kind)
    else:
        model = load_classifier(verified_folder(run.first, "model"), info.outputs, seed=run.seed, kind=info.kind)
        name_labels(model, info.labels)
        network = learner.network(model)
    return network


def _in_parts(examples: Examples, positions: np.ndarray, hardware: Hardware) -> Iterator[dict[str, Tensor]]:
    """Yield examples on the device, some at a time."""
    for at in range(0, len(positions), _AT_ONCE):
        batch = examples.batch(positions[at : at + _AT_ONCE])
        yield {name: values.to(hardware.device) for name, values in batch.items()}


def _terms(run: Run, network: Network, info: TaskInfo) -> tuple[Term, ...]:
    settings, teacher = run.method.settings, _teacher_shape(run)
    pairs: Pairs = ()
    if run.method.layer_terms and teacher.layers:
        pairs = layer_map(settings.layer_map, teacher.layers, network.layers)
    return terms_of(
        run.method.weights,
        layer_map=pairs,
        student=Shape(network.layers, network.width, network.heads),
        teacher=teacher,
        kind=info.kind,
        outputs=info.outputs,
        settings=settings.model_dump(),
        options=settings.options,
    )


def _check_tokens(run: Run, data: EncodedTask) -> None:
    """Refuse layers or first weights of a model whose tokenizer has the same vocabulary and splits texts otherwise."""
    others = [part.inputs for part in run.parts] if run.method.layer_terms else []
    if run.first is not None and run.first.source is not None:
        others.append(run.first.source.inputs)
    for other in others:
        if other.encoder and other.marker.is_file() and type(data).of(other).tokenizer != data.tokenizer:
            raise UserError(
                f"{run.label}: the vocabularies are the same, but the tokenizer of {other.encoder.name} splits texts "
                "otherwise than the student's; leave out terms that compare layers, and start from `encoder`"
            )


def _teacher_shape(run: Run) -> Shape:
    """Return the shape of the teacher whose internals are compared: the first of an ensemble."""
    if not run.parts:
        return Shape()
    recorded = read_mapping(run.parts[0].marker).get("shape")
    return Shape(**recorded) if recorded else Shape()


def _answers(
    run: Run, terms: tuple[Term, ...], info: TaskInfo, hardware: Hardware
) -> tuple[Answering | None, list[tuple[RecordingReader, Wanted]]]:
    """Return who answers, and the recordings with what is read of each; None and none without a teacher."""
    if not run.parts:
        return None, []
    everything = asked_of_teacher(terms)
    outputs = frozenset(one for one in everything if one[0] == "logits")
    ensemble = run.answers if isinstance(run.answers, Ensemble) else None
    asked = [everything if number == 0 else outputs for number in range(len(run.parts))]
    if ensemble and ensemble.internals == "none":
        asked = [outputs] * len(run.parts)
    recorded = [
        (RecordingReader(part.folder, verify=verifier(part)), wanted)
        for part, wanted in zip(run.parts, asked, strict=True)
    ]
    members = [
        _recorded(part, reader, wanted, info, hardware)
        for part, (reader, wanted) in zip(run.parts, recorded, strict=True)
    ]
    if ensemble is None:
        return members[0], recorded
    subsets = [read_record(part.runs[0]).get("subset") if part.runs else None for part in run.parts]
    return Mean(members, ensemble.combine, 0 if ensemble.internals == "first" else None, subsets), recorded


def _recorded(part: Answers, reader: RecordingReader, wanted: Wanted, info: TaskInfo, hardware: Hardware) -> Answering:
    recorded = Recorded(reader, None, hardware)
    if isinstance(part.of, AnswersFile) or not recorded.missing(wanted):
        return recorded
    chosen = read_mapping(part.marker)["teacher"]
    teacher = next((run for run in part.runs if run.fingerprint == chosen), None)
    network = open_network(teacher, part.inputs.encoder, info)
    hardware.place(network.module)
    live = Live(network, replace(hardware, precision=teacher_hardware(teacher).precision))
    return Recorded(reader, live, hardware)
