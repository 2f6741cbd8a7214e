"""The table bias_shifts (Hinton et al. 2015): classes that a student never saw, and the shift of their biases.

A row that leaves classes out (``select.classes``, ``select.drop_classes``) may know them all the same, from its
teacher's soft targets, and only its biases are wrong. One amount is added to the biases of all unseen classes: to say 7
or 8 less often is to say the others more often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from internal_kd.learners.specialist import HELD_OUT
from internal_kd.plan.runs import Run
from internal_kd.report.results import FinishedRun, StudyResults
from internal_kd.report.scoring import Lines
from internal_kd.statistics.bias_shift import best_shift, shifted_predictions

Array = np.ndarray


def shift_lines(results: StudyResults) -> Lines:
    """Return the table bias_shifts: of every run that leaves classes out, before and after a shift of their biases.

    The shift is chosen on held-out training examples, and, as the paper chooses it, on the examples that scores are on:
    those lines are optimistic. Errors are in percent, ``unseen_right`` is of the examples of unseen classes.
    """
    lines = []
    for cell in results.cells:
        task = results.task(cell)
        unseen = unseen_classes(cell.runs[0], task.info.labels)
        for done in results.finished(cell) if unseen else ():
            logits, labels = done.logits["dev"], task.labels()
            for chosen_on, given in _choices(done, logits, labels, task.info.scored_on):
                shift = best_shift(*given, unseen)
                before = shares(logits.argmax(axis=1), labels, unseen)
                after = shares(shifted_predictions(logits, unseen, shift), labels, unseen)
                lines.append(
                    cell.columns()
                    | {"seed": done.run.seed, "chosen_on": chosen_on, "shift": shift}
                    | {"unseen": " ".join(task.info.labels[number] for number in unseen)}
                    | {f"{name}_before": value for name, value in before.items()}
                    | {f"{name}_after": value for name, value in after.items()}
                    | {"error_kept": after["error"] / before["error"] if before["error"] else None}
                )
    return lines


def unseen_classes(run: Run, labels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of the classes that a run's selection leaves out; none if all or a task of values."""
    select = run.method.settings.select
    left_out = [name for name in labels if select.classes is not None and name not in select.classes]
    left_out += [name for name in labels if name in select.drop_classes]
    return tuple(labels.index(name) for name in left_out)


def _choices(
    done: FinishedRun, logits: Array, labels: Array, scored_on: str
) -> Iterator[tuple[str, tuple[Array, Array]]]:
    if HELD_OUT in done.record["files"]:
        frame = pd.read_parquet(done.run.folder / HELD_OUT)
        columns = [f"logit_{number}" for number in range(logits.shape[1])]
        yield "held-out training examples", (frame[columns].to_numpy(), frame["label"].to_numpy())
    yield scored_on, (logits, labels)


def shares(predicted: Array, labels: Array, unseen: tuple[int, ...]) -> dict[str, Any]:
    """Return the errors of answers (N,) to labels (N,), in percent and in all, and those of unseen classes."""
    wrong, of_unseen = predicted != labels, np.isin(labels, unseen)
    return {
        "errors": int(wrong.sum()),
        "error": 100 * float(wrong.mean()),
        "errors_unseen": int(wrong[of_unseen].sum()),
        "unseen_of_errors": 100 * float(wrong[of_unseen].sum() / max(1, wrong.sum())),
        "unseen_right": 100 * float((~wrong)[of_unseen].mean()) if of_unseen.any() else None,
    }
