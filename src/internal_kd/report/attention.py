"""map_attention: how near the students' attention is to their teachers', and some of the maps to look at.

Makes the frames attention (a line per head), attention_means and attention_maps (of one dev example a task, with its
tokens). Weights are optional in a run's folder (machine.keep_models, a partial pull): what cannot be measured without
them is named in the tables, and nothing fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from internal_kd.checksums import Damaged
from internal_kd.data.inputs import EncodedTask
from internal_kd.data.ragged import EncodedExamples
from internal_kd.data.tokenizers import load_tokenizer, token_texts
from internal_kd.distillation.attention_maps import Distance, Student, measure_distances
from internal_kd.distillation.hardware import choose_hardware
from internal_kd.errors import UserError
from internal_kd.learners.capture import network_of
from internal_kd.learners.layers import layer_map
from internal_kd.learners.learner import Network
from internal_kd.learners.weights import load_classifier
from internal_kd.plan.artefacts import Encoder
from internal_kd.plan.runs import FirstWeights, Run
from internal_kd.plan.store import WEIGHTS, is_complete, verified_folder
from internal_kd.plan.study import Study
from internal_kd.report.cells import STANDARD, Cell, at_shown_point, cells_of, teacher_of
from internal_kd.report.frames import frame_of
from internal_kd.report.scoring import Lines
from internal_kd.statistics import mean_of
from internal_kd.tasks.info import TaskInfo

Array = np.ndarray

# Enough for means over a thousand attention rows a head to stand still, and seconds of work for a small encoder.
EXAMPLES = 64
SHOWN_HEADS = 2
# Tokens of an example that shows something and can be read: of single texts, and of pairs.
LENGTHS = {1: (8, 14), 2: (12, 24)}
LONGEST = 32
# Shown next to row 3.0 where a study has both.
INTERNAL = "3.3"
BEFORE = "Before training"


@dataclass(frozen=True)
class RowAttention:
    """A row compared with its teacher: one finished run of it, or the first weights of one.

    ``problem`` is why there is no ``distance``.
    """

    cell: Cell
    run: Run
    teacher: Run
    pairs: tuple[tuple[int, int], ...]
    first: FirstWeights | None = None
    problem: str = ""
    distance: Distance | None = None

    @property
    def fingerprint(self) -> str:
        """The run's, or that of its first weights."""
        return self.first.fingerprint if self.first else self.run.fingerprint

    @property
    def is_baseline(self) -> bool:
        """Whether others' distances are multiples of its own: it learns from answers alone."""
        method = self.cell.method
        return self.first is None and (method.id == STANDARD or (method.needs_teacher and not method.layer_terms))

    def columns(self) -> dict[str, Any]:
        """Return what names it in the tables."""
        own = self.cell.columns() | {
            "seed": self.run.seed,
            "student_run": self.fingerprint,
            "teacher_run": self.teacher.fingerprint,
        }
        if self.first:
            own |= {"id": "", "method": "before_training", "title": BEFORE, "seed": self.first.seed}
        return own | {"problem": self.problem}

    def load(self, info: TaskInfo) -> Network:
        """Return its network."""
        if self.first is None:
            return self.run.method.learner.load(verified_folder(self.run, "model"), info.outputs)
        return network_of(load_classifier(verified_folder(self.first, "model"), info.outputs, seed=self.run.seed))


def measure_attention(study: Study) -> dict[str, pd.DataFrame]:
    """Return the frames attention, attention_means and attention_maps of the rows at the shown point."""
    lines: dict[str, Lines] = {"attention": [], "attention_means": [], "attention_maps": []}
    for task in study.tasks:
        subjects = _subjects(study, task)
        for teacher in {subject.teacher.fingerprint: subject.teacher for subject in subjects}.values():
            own = [subject for subject in subjects if subject.teacher.fingerprint == teacher.fingerprint]
            own, maps = _measure(teacher, own)
            lines["attention"] += [line for subject in own for line in _head_lines(subject)]
            lines["attention_means"] += _mean_lines(own)
            # Maps of one teacher a task, the first row's.
            lines["attention_maps"] += maps if teacher is subjects[0].teacher else []
    return {name: frame_of(study, name, own) for name, own in lines.items()}


# What can be measured


def _subjects(study: Study, task: str) -> list[RowAttention]:
    cells = [cell for cell in at_shown_point(cells_of(study)) if cell.task == task]
    found = []
    for cell in (cell for cell in cells if cell.is_student):
        reference = teacher_of(cell, cells)
        teachers = cell.runs[0].teachers or (reference.runs if reference and reference is not cell else ())
        if teachers and "attention" in cell.method.learner.hands_out:
            found.append(_subject(cell, teachers[0]))
    return [*_before(found), *found]


def _before(subjects: Sequence[RowAttention]) -> list[RowAttention]:
    """Return the first weights of the first student whose layers are matched: what its training began with."""
    for subject in subjects:
        if subject.pairs and isinstance(subject.run.first, FirstWeights):
            first = subject.run.first
            problem = _obstacle(subject.teacher) or ("" if is_complete(first) else "its weights are not here")
            return [replace(subject, first=first, problem=problem)]
    return []


def _subject(cell: Cell, teacher: Run) -> RowAttention:
    trained = [run for run in cell.runs if is_complete(run)]
    kept = [run for run in trained if (run.folder / WEIGHTS).is_file()]
    run = (kept or trained or list(cell.runs))[0]
    problem = "" if kept else "its weights are not here" if trained else "not run yet"
    pairs: tuple[tuple[int, int], ...] = ()
    if run.encoder != teacher.encoder:
        problem = problem or "its teacher reads other tokens"
    elif run.depth is None or teacher.depth is None:
        problem = problem or "its number of layers, or its teacher's, is not known"
    else:
        try:
            pairs = layer_map(run.method.settings.layer_map, teacher.depth, run.depth)
        except UserError as error:
            # A method without layer terms needs no layer map, so its depth may have none.
            problem = problem or str(error)
    return RowAttention(cell, run, teacher, pairs, problem=problem or _obstacle(teacher))


def _obstacle(teacher: Run) -> str:
    """Return why nothing can be compared with a teacher, empty if it can."""
    if not is_complete(teacher) or not (teacher.folder / WEIGHTS).is_file():
        return "its teacher's weights are not here"
    return "" if is_complete(teacher.inputs) else "the task's token ids are not here"


def _measure(teacher: Run, subjects: list[RowAttention]) -> tuple[list[RowAttention], Lines]:
    """Return the subjects of one teacher with their distances or what prevents them, and maps to look at."""
    ready = [subject for subject in subjects if not subject.problem]
    if not ready:
        return subjects, []
    data = EncodedTask.of(teacher.inputs)
    try:
        examples, weights = data.texts("dev"), verified_folder(teacher, "model")
    except Damaged as damaged:
        return [replace(one, problem=one.problem or str(damaged)) for one in subjects], []
    positions = np.sort(np.random.default_rng(0).permutation(len(examples))[:EXAMPLES])
    shown = _readable(examples, positions, data.info.texts)
    maps_of = [] if shown is None else [shown]
    students = [Student(partial(subject.load, data.info), subject.pairs) for subject in ready]
    network = partial(teacher.method.learner.load, weights, data.info.outputs)
    # fp32 whatever the models were trained in: the same numbers on every machine, but for rounding.
    found = iter(measure_distances(network, students, examples, positions, maps_of, choose_hardware("fp32")))
    measured = []
    for subject in subjects:
        distance = subject.problem or next(found)
        change = {"problem": distance} if isinstance(distance, str) else {"distance": distance}
        measured.append(replace(subject, **change))
    return measured, _map_lines(teacher.reader, measured, examples, positions, shown)


def _readable(examples: EncodedExamples, positions: Array, texts: int) -> int | None:
    """Return which of the measured positions is shown: the lowest id of a readable length, else the nearest to it."""
    low, high = LENGTHS[texts]
    lengths = examples.lengths[positions]
    off = np.maximum(low - lengths, 0) + np.maximum(lengths - high, 0)
    best = np.lexsort((np.asarray(examples.idx)[positions], off))[0]
    return int(positions[best]) if lengths[best] <= LONGEST else None


# From distances to lines


def _head_lines(subject: RowAttention) -> Lines:
    if subject.distance is None:
        return [subject.columns()]
    kl = subject.distance.kl
    mean, std = kl.mean(0), kl.std(0, ddof=1) if len(kl) > 1 else np.full(kl.shape[1:], np.nan)
    return [
        subject.columns()
        | {"student_layer": own, "teacher_layer": taught, "head": head + 1, "dev_examples": len(kl)}
        | {"kl": float(mean[at, head]), "kl_std": float(std[at, head])}
        for at, (own, taught) in enumerate(subject.pairs)
        for head in range(kl.shape[2])
    ]


def _mean_lines(subjects: Sequence[RowAttention]) -> Lines:
    """Return a line per row: its mean with an interval over examples, and as a multiple of the baseline's."""
    baseline = next((one for one in subjects if one.is_baseline and one.distance), None)
    base = baseline.distance.kl.mean((1, 2)) if baseline and baseline.distance else None
    lines = []
    for subject in subjects:
        line = subject.columns()
        if subject.distance is not None and len(subject.distance.kl) > 1:
            values = subject.distance.kl.mean((1, 2))
            mean = mean_of(values, "attention KL")
            line |= {"dev_examples": len(values), "heads": subject.distance.kl.shape[2], "kl": mean.mean}
            line |= {"low": max(0.0, mean.low), "high": mean.high}
            if baseline and base is not None and base.mean() > 0:
                share = values.mean() / base.mean()
                # What an example adds to the ratio, to first order.
                ratio = mean_of((values - share * base) / base.mean(), "ratio", scores=[share])
                line |= {"baseline": baseline.cell.id, "ratio": share, "ratio_low": ratio.low, "ratio_high": ratio.high}
        lines.append(line)
    return lines


def _map_lines(
    encoder: Encoder, subjects: Sequence[RowAttention], examples: EncodedExamples, positions: Array, shown: int | None
) -> Lines:
    """Return maps of the heads of the top matched layer in which the first student shown is furthest off."""
    students = [one for one in subjects if one.distance and not one.first]
    standard = next((one for one in students if one.is_baseline), None)
    matched = [
        one
        for one in students
        if "attention_kl" in one.cell.method.weights and (not standard or one.pairs[-1] == standard.pairs[-1])
    ]
    internal = next((one for one in matched if one.cell.id == INTERNAL), next(iter(matched), None))
    chosen = [one for one in (standard, internal) if one] or students[:1]
    if not chosen or shown is None:
        return []
    ids = examples.ids(shown).tolist()
    tokens = token_texts(load_tokenizer(encoder.folder, encoder.name, len(ids)).tokenizer, ids)
    first, row = chosen[0], int(np.flatnonzero(positions == shown)[0])
    own, taught = first.pairs[-1]
    lines: Lines = []
    assert first.distance is not None
    for head in np.argsort(-first.distance.kl[:, -1].mean(0), kind="stable")[:SHOWN_HEADS].tolist():
        named = {"task": first.cell.task, "idx": int(examples.idx[shown]), "head": head + 1, "tokens": tokens}
        probabilities = first.distance.teacher_maps[shown][head].ravel().tolist()
        teacher = {"model": "teacher", "title": "Teacher", "layer": taught, "fingerprint": first.teacher.fingerprint}
        lines.append(named | teacher | {"probabilities": probabilities})
        for one in chosen:
            assert one.distance is not None
            student = {"model": "student", "title": one.cell.name, "layer": own, "fingerprint": one.fingerprint}
            numbers = {"kl": float(one.distance.kl[row, -1, head])}
            lines.append(named | student | numbers | {"probabilities": one.distance.maps[shown][head].ravel().tolist()})
    return lines
