"""The table of pairs: what each of two learners that were trained in one run scores, and how alike they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from internal_kd.learners.pair import PEER_PREDICTIONS
from internal_kd.report.results import StudyResults, read_logits
from internal_kd.report.scoring import Lines
from internal_kd.report.shifts import combined
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import score


def peer_lines(results: StudyResults) -> Lines:
    """Return the table peers, of every finished run of a pair: the pair is the unit that differs by seed.

    ``together`` is the score of the mean of both probabilities: the ensemble of two. What ``first`` scores is what
    every other table has of the run.
    """
    lines = []
    for cell in (cell for cell in results.cells if cell.method.learner.kind == "pair"):
        task = results.task(cell)
        main, kind, labels = task.info.columns[0], KINDS[task.info.kind], task.labels()
        for done in results.finished(cell):
            peer = read_logits(done.run.folder / f"{PEER_PREDICTIONS}.parquet", task.rows(), task.info)
            both = np.stack([done.logits["dev"], peer])
            together = combined(both, "mean_probabilities" if task.info.labels else "mean_logits")
            answers = [kind.by_example(task.row_ids(), kind.predicted(each)) for each in (*both, together)]
            first, second, mean = (
                float(score(labels, each, main.metric, len(task.info.labels) or None)) for each in answers
            )
            scores = {"first": first, "second": second, "mean": (first + second) / 2, "together": mean}
            told = _likeness(answers[0], answers[1], labels) if task.info.labels else {}
            epochs = [line["dev_agreement"] for line in done.history if line.get("dev_agreement") is not None]
            at_first = {"agreement_at_first": 100 * epochs[0]} if epochs else {}
            lines.append(cell.columns() | {"metric": main.name, "seed": done.run.seed} | scores | told | at_first)
    return lines


def _likeness(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return how often two answer alike, and how often one alone is right, in percent of all rows."""
    real = labels >= 0  # sentences of tags are padded with -1
    first, second, labels = first[real], second[real], labels[real]
    return {
        "first_alone_right": 100 * float(((first == labels) & (second != labels)).mean()),
        "second_alone_right": 100 * float(((second == labels) & (first != labels)).mean()),
        "agreement": 100 * float((first == second).mean()),
    }
