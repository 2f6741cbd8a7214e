"""Record a teacher once for all students: its answers, and what of its internals they compare, by example id."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import torch

from internal_kd.checksums import publish
from internal_kd.data.answers_file import answers_from_file
from internal_kd.data.dense import DenseExamples
from internal_kd.data.examples import manifest_of, read_task
from internal_kd.data.inputs import EncodedTask
from internal_kd.data.ragged import EncodedExamples
from internal_kd.distillation.batches import Examples
from internal_kd.distillation.hardware import Hardware, choose_hardware
from internal_kd.distillation.masked_copies import copies_of
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.record_network import record_network, sizes_of
from internal_kd.distillation.recording import RecordingWriter
from internal_kd.distillation.recording_size import Sizes, affordable, recording_bytes, stored
from internal_kd.distillation.terms import asked_of_teacher, terms_of
from internal_kd.errors import UserError
from internal_kd.files import read_mapping, require_space, staging_folder
from internal_kd.learners.encoder import EncoderLearner
from internal_kd.learners.layers import layer_map
from internal_kd.learners.learner import Network, Shape, Wanted
from internal_kd.params.study import MachineParams
from internal_kd.plan.artefacts import Encoder
from internal_kd.plan.refusals import no_held_out
from internal_kd.plan.runs import Answers, AnswersFile, Run
from internal_kd.plan.store import read_record, verified_folder
from internal_kd.steps.training_examples import training_positions, with_copies
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import METRICS
from internal_kd.tasks.tags import sentence_and_word

# With fewer dev examples, a teacher may be no better than the majority class by chance.
ENOUGH_TO_JUDGE = 30


def record_answers(answers: Answers, machine: MachineParams) -> None:
    """Write ``work/answers/...``; what exceeds the disk budget is left for training to compute.

    Raises:
        UserError: the teacher learned nothing and nobody accepts that, its weights are missing, a file of answers
            cannot be used, the disk is full, or memory runs out with one example at a time.
    """
    data = EncodedTask.of(answers.inputs)
    if isinstance(answers.of, AnswersFile):
        _record_file(answers, answers.of, data)
        return
    teacher = choose_teacher(answers)
    refuse_weak(answers, teacher)
    _record_network(answers, teacher, data, machine)


def choose_teacher(answers: Answers) -> Run | None:
    """Return the run that answers: of several the one with the best score on its held-out training examples.

    None stands for the pre-trained encoder.
    """
    if not answers.runs:
        return None
    if len(answers.runs) == 1:
        return answers.runs[0]
    metric = read_task(answers.inputs.data).info.metrics[0]
    main = METRICS[metric]

    def merit(run: Run) -> float:
        held_out = read_record(run).get("held_out")
        if not held_out or metric not in held_out:
            raise no_held_out(run.method.name)
        found = held_out[metric]
        if found is None:  # a constant, which has no correlation
            return -math.inf
        return found if main.higher_is_better else -found

    return max(answers.runs, key=merit)


def refuse_weak(answers: Answers, teacher: Run | None) -> None:
    """Refuse a teacher that is no better than always giving the majority class, unless its students accept that.

    Few dev examples, or such that all have one label or value, cannot tell, and refuse nobody.

    Raises:
        UserError: it learned nothing.
    """
    if teacher is None or all(need.accepts_weak for need in answers.needs):
        return
    record = read_record(teacher)
    metric, score = next(iter(record["scores"].items()))
    floor, higher = record["majority"], METRICS[metric].higher_is_better
    if score is not None and not math.isnan(score) and (score > floor if higher else score < floor):
        return
    one_answer = _one_answer(answers, teacher)
    if one_answer is None:
        print(f"warning: {teacher.label} is not judged: its dev examples are few or have one label", flush=True)
        return
    shown = "undefined" if score is None else f"{100 * score:.1f}"
    raise UserError(
        f"{teacher.label} learned nothing: {one_answer}{metric} {shown}, and {100 * floor:.1f} is what always "
        f"predicting the majority gives. Train it longer or with a smaller learning rate, take `teacher: {{of: "
        f"{teacher.method.name}, seed: best}}`, or accept it with `weak: accept`"
    )


def _one_answer(answers: Answers, teacher: Run) -> str | None:
    """Return words for a teacher that predicts one thing for every dev example; None if these cannot judge it."""
    info = read_task(answers.inputs.data).info
    rows = pd.read_parquet(verified_folder(teacher) / "predictions.parquet")
    if len(rows) < ENOUGH_TO_JUDGE or rows["label"].nunique() == 1:
        return None
    predicted = KINDS[info.kind].predicted(rows.filter(like="logit_").to_numpy())
    if (predicted != predicted[0]).any():
        return ""
    what = repr(info.labels[int(predicted[0])]) if info.labels else f"{predicted[0]:.3g}"
    return f"it predicts {what} for every dev example; "


def open_network(teacher: Run | None, encoder: Encoder | None, info: TaskInfo) -> Network:
    """Load a teacher's network, frozen; None stands for the pre-trained encoder, whose head means nothing."""
    if teacher is None:
        assert encoder is not None
        return EncoderLearner().build(verified_folder(encoder), info.outputs, seed=0, kind=info.kind).freeze()
    return teacher.method.learner.load(verified_folder(teacher, "model"), info.outputs).freeze()


def teacher_hardware(teacher: Run | None) -> Hardware:
    """Return the hardware in the teacher's own precision, which a recording has and need not be the student's."""
    return choose_hardware("auto" if teacher is None else teacher.method.settings.precision)


def asked(answers: Answers, info: TaskInfo, teacher: Shape, encoder_layers: int | None) -> Wanted:
    """Return everything that the students of a study read of a teacher of this shape."""
    found: set[tuple[str, int]] = set()
    for need in answers.needs:
        depth = need.layers if isinstance(need.layers, int) else encoder_layers
        layered = any(OBJECTIVES[term].per != "output" for term in need.terms)
        pairs = layer_map(need.layer_map, teacher.layers, depth) if layered and teacher.layers and depth else ()
        terms = terms_of(
            dict.fromkeys(need.terms, 1.0),
            layer_map=pairs,
            student=Shape(layers=depth),
            teacher=Shape(layers=teacher.layers),
            kind=info.kind,
            settings={"temperature": 1.0},
            options=json.loads(need.options),
        )
        found |= asked_of_teacher(terms)
    return frozenset(found)


def _record_network(answers: Answers, teacher: Run | None, data: EncodedTask, machine: MachineParams) -> None:
    hardware, info = teacher_hardware(teacher), data.info
    network = open_network(teacher, answers.inputs.encoder, info)
    hardware.place(network.module)
    shape = Shape(network.layers, network.width, network.heads)
    examples, rows = _examples(answers, data.training(), info.labels)
    lengths, sizes = np.asarray(examples.lengths)[rows], sizes_of(network, info.outputs)
    wanted = asked(answers, info, shape, _layers_of(answers))
    kept = affordable(wanted, lengths, sizes, machine.disk_budget_gb)
    _announce(wanted, kept, lengths, sizes, machine.disk_budget_gb)
    require_space(answers.folder, recording_bytes(kept, lengths, sizes), f"the answers on {answers.task}")
    with staging_folder(answers.folder) as staged:
        record_network(network, examples, rows, kept, info.outputs, staged, hardware)
        facts = {
            "teacher": teacher.fingerprint if teacher else None,
            "recorded": sorted(map(list, kept)),
            "shape": {"layers": network.layers, "width": network.width, "heads": network.heads},
            "examples": len(rows),
        }
        publish(staged, answers.folder, {**manifest_of(answers), **facts})


def _layers_of(answers: Answers) -> int | None:
    encoder = answers.inputs.encoder
    return read_mapping(encoder.marker).get("layers") if encoder else None


def _examples(
    answers: Answers, originals: EncodedExamples | DenseExamples, labels: tuple[str, ...]
) -> tuple[Examples, np.ndarray]:
    """Return all examples, masked copies included, and the positions of those that a student of the study reads."""
    chosen = [
        (training_positions(originals, select, labels)[0], copies_of(select.masked_copies, select.masked_share))
        for select in {need.select for need in answers.needs}
    ]
    examples, positions = with_copies(originals, answers.inputs, chosen)
    return examples, np.unique(np.concatenate(positions))


def _announce(wanted: Wanted, kept: Wanted, lengths: np.ndarray, sizes: Sizes, budget_gb: float) -> None:
    size = f"{recording_bytes(wanted, lengths, sizes) / 1e9:.2f} GB for {len(lengths)} examples"
    left = len(stored(wanted)) - len(kept)
    if not left:
        print(f"recording {size} (budget {budget_gb:g} GB)", flush=True)
        return
    print(
        f"{size} exceed machine.disk_budget_gb of {budget_gb:g}: {left} of {len(stored(wanted))} arrays are computed "
        "while training",
        flush=True,
    )


def _record_file(answers: Answers, file: AnswersFile, data: EncodedTask) -> None:
    found = answers_from_file(file.path, answers.inputs.data, file.content, file.occurrences)
    for line in found.report.lines():
        print(f"{file.path}: {line}", flush=True)
    wanted: Wanted = frozenset({("logits", 0)})
    with staging_folder(answers.folder) as staged:
        ids, rows = found.idx, None
        if data.info.kind == "tags":
            ids, rows = np.unique(sentence_and_word(found.idx)[0]), found.idx
        ones = np.ones(len(ids), dtype=np.int64)
        writer = RecordingWriter(staged, ids, ones, wanted, {"classes": data.info.outputs}, rows)
        writer.write(np.arange(len(ids)), {("logits", 0): torch.from_numpy(found.logits)}, rows)
        writer.flush()
        facts = {"teacher": None, "recorded": [["logits", 0]], "shape": None, "examples": len(ids)}
        publish(staged, answers.folder, {**manifest_of(answers), **facts, "report": found.report.lines()})
