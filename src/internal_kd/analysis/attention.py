"""map_attention: how near the students' attention maps are to the teacher's, and some of the maps to look at.

Writes attention.csv (a line per head), attention_means.csv, attention.md and .tex, beside the figures
attention_maps.json (maps of a few dev examples with their tokens) and, last, attention.json.

Weights are optional in a run's folder (machine.keep_models, a partial pull): what cannot be measured for want of them
is named in the tables, and nothing fails.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.analysis.attention_rows import (
    BEFORE,
    COLUMNS,
    AttentionRow,
    HeadRow,
    Subject,
    attention_rows,
    head_rows,
)
from internal_kd.analysis.attention_shown import ShownTask, choose_examples, show_task
from internal_kd.analysis.attention_text import attention_text, sentences
from internal_kd.analysis.built import attention_maps_path, recorded_key, tables_folder
from internal_kd.analysis.cells import Cell, cells_of, teacher_layers
from internal_kd.analysis.csv_files import write_csv
from internal_kd.analysis.fidelity_tables import teacher_of
from internal_kd.analysis.figures import shown_depth, shown_size
from internal_kd.analysis.predictions import read_facts
from internal_kd.analysis.scores import read_scores
from internal_kd.analysis.text_tables import write_text_table
from internal_kd.artefacts import Run, StudentRun
from internal_kd.errors import UserError
from internal_kd.files import remove, write_json, write_text
from internal_kd.models.layers import layer_map
from internal_kd.records import WEIGHTS, is_complete
from internal_kd.study import Study

if TYPE_CHECKING:
    from internal_kd.distillation.attention_maps import Distance

# Enough for means over a thousand attention rows a head to stand still, and seconds of work for a small encoder.
EXAMPLES = 64


def map_attention(study: Study) -> Path:
    """Measure the students that the main figure shows against their teachers; returns attention.csv's path.

    Raises:
        UserError: there are no scores.
    """
    key, folder = recorded_key(study), tables_folder(study)
    finished = {score.fingerprint for score in read_scores(study)}
    remove(folder / "attention.json")
    lines: list[HeadRow] = []
    rows: list[AttentionRow] = []
    maps = {}
    for task in study.tasks:
        subjects, distances, shown = _measure_task(study, task, finished)
        lines += head_rows(subjects, distances)
        rows += attention_rows(subjects, distances)
        maps[task] = asdict(shown)
    write_csv(folder / "attention.csv", [f.name for f in fields(HeadRow)], [astuple(line) for line in lines])
    write_csv(folder / "attention_means.csv", COLUMNS, [[getattr(row, name) for name in COLUMNS] for row in rows])
    facts = {name: read_facts(tokens) for name, tokens in study.tasks.items()}
    table = attention_text(facts, rows)
    write_text_table(folder, "attention", table)
    # Sentences of the data: beside the figures, which git does not hold, and on one line, for nobody reads the numbers.
    write_text(attention_maps_path(study), json.dumps({"key": key, "tasks": maps}, ensure_ascii=False) + "\n")
    runs = list(dict.fromkeys(run for row in rows if row.kl is not None for run in (row.teacher, row.student)))
    said = sentences(facts, rows)
    write_json(folder / "attention.json", {"key": key, "runs": runs, "sentences": said, "table": asdict(table)})
    return folder / "attention.csv"


def _measure_task(
    study: Study, task: str, finished: set[str]
) -> tuple[list[Subject], list[Distance | None], ShownTask]:
    chosen = [c for c in cells_of(study) if c.task == task and (c.depth, c.examples) == _place(study)]
    students = [cell for cell in chosen if not cell.is_teacher]
    if not students:
        return [], [], ShownTask(problem="the study has no students")
    teacher = teacher_of(study, students[0].runs[0])
    subjects = [_subject(study, cell, teacher, finished) for cell in students]
    subjects = [*_before(subjects), *subjects]
    if why := _problem_with_teacher(teacher, finished):
        subjects = [replace(s, row=replace(s.row, problem=s.row.problem or why)) for s in subjects]
    if not any(subject.ready for subject in subjects):
        return subjects, [None] * len(subjects), ShownTask(problem=why or subjects[-1].row.problem)
    return _measure(teacher, subjects)


def _place(study: Study) -> tuple[int, str]:
    return shown_depth(study), shown_size(study)


def _problem_with_teacher(teacher: Run, finished: set[str]) -> str:
    if teacher.fingerprint not in finished:
        return "the teacher is not trained yet"
    if not (teacher.folder / WEIGHTS).is_file():
        return "the teacher's weights are not here"
    return "" if is_complete(teacher.tokens) else "the task's tokens are not here"


def _subject(study: Study, cell: Cell, teacher: Run, finished: set[str]) -> Subject:
    trained = [run for run in cell.runs if run.fingerprint in finished]
    kept = [run for run in trained if (run.folder / WEIGHTS).is_file()]
    run = (kept or trained or cell.runs)[0]
    assert isinstance(run, StudentRun)
    problem = "" if kept else "its weights are not here" if trained else "not run yet"
    layers: tuple[int, ...] = ()
    try:
        if depth := teacher_layers(study):
            layers = layer_map(run.method.settings.layer_map, depth, run.depth)
        else:
            problem = problem or "the teacher's number of layers is not known"
    except UserError as error:
        # Methods without layer terms need no layer map, so a study of these alone may have a depth that has none.
        problem = problem or str(error)
    row = AttentionRow(
        cell.task, cell.id, cell.method, cell.title, run.depth, cell.examples, run.seed if trained else None,
        student=run.fingerprint if trained else "", teacher=teacher.fingerprint, problem=problem,
    )  # fmt: skip
    return Subject(row, run.folder / "model", layers, run)


def _before(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the first weights of the first student whose layers are matched: what its training began with."""
    for subject in subjects:
        if subject.layers and subject.student:
            initial = subject.student.initial
            row = replace(
                subject.row, id="", method=BEFORE, title="Before training", seed=initial.seed,
                student=initial.fingerprint, problem="" if is_complete(initial) else "its weights are not here",
            )  # fmt: skip
            return [Subject(row, initial.folder / "model", subject.layers, None)]
    return []


def _measure(teacher: Run, subjects: list[Subject]) -> tuple[list[Subject], list[Distance | None], ShownTask]:
    from internal_kd.data.batches import nested_subset
    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.attention_maps import Pupil, measure_distances
    from internal_kd.distillation.hardware import choose_hardware

    store = TokenStore(teacher.tokens.folder)
    split = store.split("dev")
    positions = np.sort(nested_subset(np.asarray(split.idx), min(EXAMPLES, len(split))))
    shown = choose_examples(teacher.tokens, split, positions)
    ready = [number for number, subject in enumerate(subjects) if subject.ready]
    pupils = [Pupil(subjects[number].folder, subjects[number].layers) for number in ready]
    # fp32 whatever the models were trained in: the same numbers on every machine, but for rounding.
    hardware = choose_hardware("fp32")
    found = measure_distances(teacher.folder / "model", pupils, split, positions, shown, store.classes, hardware)
    distances: list[Distance | None] = [None] * len(subjects)
    for number, distance in zip(ready, found, strict=True):
        if isinstance(distance, str):
            subjects[number] = replace(subjects[number], row=replace(subjects[number].row, problem=distance))
        else:
            distances[number] = distance
    return subjects, distances, show_task(teacher.tokens, subjects, distances, split, positions, shown)
