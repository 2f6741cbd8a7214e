"""A run's answers on its task's training examples as a file, from which other studies can learn.

methods:
  from_file: {teacher: {answers: answers.jsonl}, weights: {soft: 1}}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import softmax

from internal_kd.data.examples import TaskOnDisk, read_task
from internal_kd.data.inputs import EncodedTask
from internal_kd.distillation.batches import rows_of
from internal_kd.distillation.predicting import predict_logits
from internal_kd.errors import UserError
from internal_kd.files import check_json_lines, write_json_lines
from internal_kd.plan.runs import Run
from internal_kd.plan.store import WEIGHTS, is_complete
from internal_kd.steps.encode import encode_task
from internal_kd.steps.record import open_network, teacher_hardware
from internal_kd.tasks.tags import word_id


def export_answers(run: Run, path: Path, *, form: Literal["logits", "probabilities"] = "logits") -> int:
    """Write what a run answers to every example of train and, if the task has such texts, of unlabelled.

    One JSON object per line, whose number is returned: ``idx``, the text (``text``, or ``text_a`` and ``text_b``), and
    an object by class name, logits or their softmax (``form``); for a task of values a number, ``value``; for tags
    ``tokens`` and an object with a list for each tag. Logits are exactly those that ``record_answers`` records.

    Raises:
        UserError: the run or its weights are missing, or ``path`` does not end in .jsonl.

    Example:
        >>> export_answers(run, Path("answers.jsonl"))  # doctest: +SKIP
        2490
        >>> Path("answers.jsonl").open().readline()  # doctest: +SKIP
        '{"idx": 0, "text": "The cats sleep.", "logits": {"unacceptable": -2.1, "acceptable": 2.3}}'
    """
    check_json_lines(path)
    if not (run.folder / WEIGHTS).is_file():
        raise UserError(
            f"{run.folder / WEIGHTS} is missing; `internal-kd make {run.fingerprint}` or `dvc pull` brings it"
        )
    if not is_complete(run.inputs):
        encode_task(run.inputs)
    data = EncodedTask.of(run.inputs)
    examples, hardware = data.training(), teacher_hardware(run)
    network = open_network(run, run.encoder, data.info)
    hardware.place(network.module)
    logits = predict_logits(network, examples, hardware)
    task, rows = read_task(run.inputs.data), rows_of(examples, np.arange(len(examples)))
    if task.info.kind == "tags":
        order = np.argsort(rows)
        lines = _tagged_lines(task, rows[order], logits[order], form)
    else:
        lines = _lines(task, dict(zip(rows.tolist(), logits, strict=True)), form)
    return write_json_lines(path, lines)


def _lines(task: TaskOnDisk, answers: dict[int, np.ndarray], form: str) -> Iterator[dict[str, Any]]:
    info = task.info
    names = ("text_a", "text_b") if info.texts == 2 else ("text",)
    for idx, texts in task.texts(task.training):
        line = {"idx": idx, **dict(zip(names, texts, strict=True))}
        if info.labels:
            yield {**line, form: dict(zip(info.labels, _numbers(answers[idx], form), strict=True))}
        else:
            yield {**line, "value": _numbers(answers[idx], "logits")[0]}


def _tagged_lines(task: TaskOnDisk, rows: np.ndarray, logits: np.ndarray, form: str) -> Iterator[dict[str, Any]]:
    for idx, tokens in zip(*task.columns(("idx", "tokens"), task.training), strict=True):
        words = np.searchsorted(rows, word_id(np.full(len(tokens), idx), np.arange(len(tokens))))
        numbers = zip(*(_numbers(row, form) for row in logits[words]), strict=True)
        yield {"tokens": tokens, form: dict(zip(task.info.labels, map(list, numbers), strict=True))}


def _numbers(row: np.ndarray, form: str) -> list[float]:
    """Return logits or their softmax with as many digits as fp32 has."""
    if form == "probabilities":
        row = softmax(row)
    return [float(str(number)) for number in row]
