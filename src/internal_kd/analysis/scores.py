"""Scores from predictions: the field's metrics through scikit-learn and scipy, one value per run and metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.analysis.built import tables_folder
from internal_kd.analysis.cells import cell_of_run, teacher_layers
from internal_kd.analysis.csv_files import read_csv
from internal_kd.analysis.predictions import Evidence
from internal_kd.metrics import score_predictions
from internal_kd.study import Study

if TYPE_CHECKING:
    pass

Array = np.ndarray

GAP_COLUMNS = ("label", "fingerprint", "problem")
RECORDED = ("encoder_parameters", "total_parameters", "seconds", "examples_per_second")


@dataclass(frozen=True)
class Score:
    """One run's value of one metric in natural units; ``value`` is None where the metric is not defined."""

    task: str
    metric: str
    id: str
    method: str
    depth: int | None
    examples: str
    seed: int
    value: float | None
    fingerprint: str
    encoder_parameters: int | None
    total_parameters: int | None
    seconds: float | None
    examples_per_second: float | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Task, method, depth and examples as text: the cell."""
        return (self.task, self.method, "" if self.depth is None else str(self.depth), self.examples)


def scores_of(study: Study, evidence: Evidence) -> list[Score]:
    """Return the scores of every finished run, in the order of the study."""
    layers = teacher_layers(study)
    scores = []
    for finished in evidence.finished.values():
        facts, record = evidence.tasks[finished.run.task], finished.record
        task, row, method, depth, examples = cell_of_run(finished.run, layers)
        values = {
            split: score_predictions(frame, facts.metrics, facts.regression)
            for split, frame in finished.predictions.items()
        }
        measured = [record.get(name) for name in RECORDED]
        for name, metric, split in facts.scored:
            value = values[split][metric]
            scores.append(
                Score(
                    task, name, row, method, depth, examples, finished.run.seed,
                    value if math.isfinite(value) else None, finished.run.fingerprint, *measured,
                )
            )  # fmt: skip
    return scores


def read_scores(study: Study) -> list[Score]:
    """Read scores.csv back.

    Raises:
        UserError: it is missing or not whole.
    """
    path = tables_folder(study) / "scores.csv"
    return read_csv(path, "score-runs", lambda lines: [_score_of(line) for line in lines])


def _score_of(line: dict[str, str]) -> Score:
    numbers: dict[str, Callable[[str], Any]] = {"depth": int, "seed": int, "value": float}
    numbers |= {"encoder_parameters": int, "total_parameters": int, "seconds": float, "examples_per_second": float}
    values: dict[str, Any] = {
        name: text if name not in numbers else numbers[name](text) if text else None for name, text in line.items()
    }
    return Score(**values)
