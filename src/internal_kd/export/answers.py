"""A run's answers on its task's training examples as a file, from which other studies can learn.

methods:
  from_file: {teacher: {answers: answers.jsonl}, weights: {soft: 1}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from internal_kd.errors import UserError
from internal_kd.files import replacing
from internal_kd.plan.runs import Run
from internal_kd.plan.store import WEIGHTS, is_complete
from internal_kd.tasks.tags import word_id

if TYPE_CHECKING:
    import numpy as np

    from internal_kd.data.examples import TaskOnDisk


def export_answers(run: Run, path: Path, *, form: Literal["logits", "probabilities"] = "logits") -> int:
    """Write what a run answers to every example of train and, if the task has such texts, of unlabelled.

    One JSON object per line: ``idx``, the text (``text``, or ``text_a`` and ``text_b``), and an object by class name;
    for a task of values a number, ``value``; for tags ``tokens`` and an object with a list for each tag. Logits are
    exactly those that ``record_answers`` records.

    Args:
        run: with weights; a teacher, a student, or a model that was fine-tuned elsewhere.
        path: the file, ending in .jsonl.
        form: what stands for a class: ``logits`` or ``probabilities``; a task of values has neither.

    Returns:
        The number of lines.

    Raises:
        UserError: the run or its weights are missing, or the file has another ending.

    Example:
        >>> export_answers(run, Path("answers.jsonl"))  # doctest: +SKIP
        2490
        >>> Path("answers.jsonl").open().readline()  # doctest: +SKIP
        '{"idx": 0, "text": "The cats sleep.", "logits": {"unacceptable": -2.1, "acceptable": 2.3}}'
    """
    import numpy as np

    from internal_kd.data.examples import read_task
    from internal_kd.data.inputs import EncodedTask
    from internal_kd.distillation.batches import rows_of
    from internal_kd.distillation.predicting import predict_logits
    from internal_kd.steps.encode import encode_task
    from internal_kd.steps.record import open_network, teacher_hardware

    if path.suffix != ".jsonl":
        raise UserError(f"{path}: answers are written as JSON Lines; give a name that ends in .jsonl")
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
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        count = 0
        for line in lines:
            file.write(line)
            count += 1
    return count


def _lines(task: TaskOnDisk, answers: dict[int, np.ndarray], form: str) -> Iterator[str]:
    info = task.info
    names = ("text_a", "text_b") if info.texts == 2 else ("text",)
    for split in ("train", "unlabelled"):
        if split not in info.rows:
            continue
        table = task.table(split)
        columns = [table[column].to_pylist() for column in ("idx", "text_a", "text_b")[: 1 + info.texts]]
        for example, *texts in zip(*columns, strict=True):
            row = answers[example]
            line = {"idx": example, **dict(zip(names, texts, strict=True))}
            if info.labels:
                line[form] = dict(zip(info.labels, _numbers(row, form), strict=True))
            else:
                line["value"] = _numbers(row, "logits")[0]
            yield json.dumps(line, ensure_ascii=False) + "\n"


def _tagged_lines(task: TaskOnDisk, rows: np.ndarray, logits: np.ndarray, form: str) -> Iterator[str]:
    import numpy as np

    from internal_kd.data.answers_file import sentences_of

    sentences, names = sentences_of(task), task.info.labels
    for idx, tokens in zip(sentences.idx, sentences.tokens, strict=True):
        words = np.searchsorted(rows, word_id(np.full(len(tokens), idx), np.arange(len(tokens))))
        numbers = zip(*(_numbers(row, form) for row in logits[words]), strict=True)
        line = {"tokens": tokens, form: dict(zip(names, map(list, numbers), strict=True))}
        yield json.dumps(line, ensure_ascii=False) + "\n"


def _numbers(row: np.ndarray, form: str) -> list[float]:
    """Return logits or their softmax with as many digits as fp32 has."""
    import numpy as np

    if form == "probabilities":
        shares = np.exp(row - row.max())
        row = (shares / shares.sum()).astype(np.float32)
    return [float(str(number)) for number in row]
