"""What is known of an export: measured here, or read from the run's own record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from internal_kd.data.examples import TaskOnDisk
from internal_kd.export.choice import Choice
from internal_kd.export.model_folder import Agreement
from internal_kd.export.scores import DEV, EntityScore, predictions_of, score_of
from internal_kd.plan.runs import Run
from internal_kd.plan.store import problem_with, read_record
from internal_kd.plan.study import Study
from internal_kd.report.latency import LatencyLine
from internal_kd.statistics import mean_over_seeds, mean_score, std_over_seeds
from internal_kd.tasks.info import ScoreColumn
from internal_kd.tasks.kinds import KINDS

TEACHER, TORCH, ONNX, ONNX_INT8 = "teacher, torch fp32", "torch fp32", "ONNX fp32", "ONNX int8"

# Of the torch model, the ONNX graph and the int8 one, by metric; None where a metric is not defined.
Scores = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class OnnxFacts:
    """The graphs: how far fp32 and int8 are from torch's fp32, and what they were made with."""

    fp32: Agreement
    int8: Agreement
    versions: str


@dataclass(frozen=True)
class ScoreLine:
    """Scores under one metric, in natural units; None where it is not defined or not known.

    Attributes:
        column: the metric and its dev set.
        model: of the exported folder, as it computes.
        mean, std, low, high: of its row: mean and standard deviation over seeds, 95 % interval on new examples.
        seeds: how many seeds that rests on.
        teacher: of the run that taught, or the mean over several.
        majority: of always predicting the training set's most frequent class, or its mean; main metric alone.
    """

    column: ScoreColumn
    model: float | None
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    seeds: int
    teacher: float | None
    majority: float | None


@dataclass(frozen=True)
class ExportFacts:
    """An exported run.

    Attributes:
        as_predicted: its logits in fp32 compared with the recorded predictions.
        sizes: bytes by format.
        scores: on the dev set, by format and metric.
        lines: every column of scores.
        predicts: how many classes, or different values, it predicts on the dev set.
        onnx: None where the packages for it are not installed.
        entities: scores of each type, of a task of tags.
    """

    study: Study
    choice: Choice
    task: TaskOnDisk
    record: Mapping[str, Any]
    encoder: Mapping[str, Any]
    as_predicted: Agreement
    sizes: Mapping[str, int]
    scores: Scores
    lines: tuple[ScoreLine, ...]
    predicts: int
    latency: tuple[LatencyLine, ...]
    machine: str
    versions: str
    onnx: OnnxFacts | None
    entities: tuple[EntityScore, ...] = ()

    @property
    def run(self) -> Run:
        """The exported run."""
        return self.choice.run

    def as_json(self) -> dict[str, Any]:
        """Return what ``export.json`` records."""
        run, choice = self.run, self.choice
        main = self.lines[0]
        return {
            "task": self.task.info.name,
            "run": {"label": run.label, "fingerprint": run.fingerprint, "folder": str(run.folder)},
            "choice": {
                "metric": choice.metric,
                "method": run.method.name,
                "point": dict(choice.cell.point),
                "method_given": choice.method_given,
                "candidates": [asdict(candidate) for candidate in choice.candidates],
                "tied": list(choice.tied),
                "seed": run.seed,
                "rule": choice.rule,
                "value": choice.values.get(run.seed),
                "seeds": {str(seed): value for seed, value in choice.values.items()},
                "seeds_with_weights": list(choice.kept),
                "mean": main.mean,
                "std": main.std,
                "interval": [main.low, main.high],
            },
            "as_predicted": {**asdict(self.as_predicted), "precision_of_predictions": self.record["precision"]},
            "dev_scores": {name: dict(values) for name, values in self.scores.items()},
            "majority": self.record.get("majority"),
            "predicted_classes_or_values": self.predicts,
            "onnx": None
            if self.onnx is None
            else {
                "against_torch": asdict(self.onnx.fp32),
                "int8_against_torch": asdict(self.onnx.int8),
                "versions": self.onnx.versions,
            },
            "latency": {
                "machine": self.machine,
                "versions": self.versions,
                "threads": 1,
                "lines": [
                    {"contestant": line.contestant, "batch": line.batch, "tokens": line.tokens, **asdict(line.timing)}
                    for line in self.latency
                ],
            },
        }


def score_lines(choice: Choice, task: TaskOnDisk, computed: Mapping[str, float | None]) -> tuple[ScoreLine, ...]:
    """Return every column of scores of an exported run.

    ``computed`` are its dev scores, as the exported folder computes; a second dev set has its recorded score.
    """
    info = task.info
    runs = [run for run in choice.cell.runs if run.seed in choice.values]
    taught = [run for run in choice.run.teachers if problem_with(run) is None]
    records = {run.fingerprint: read_record(run) for run in (*runs, *taught)}
    lines = []
    for column in info.columns:
        own = {run.seed: score_of(run, records[run.fingerprint], info, column) for run in runs}
        above = [score_of(run, records[run.fingerprint], info, column) for run in taught]
        low, high = _interval(runs, column, info.outputs, info.kind)
        recorded = records[choice.run.fingerprint].get("majority")
        lines.append(
            ScoreLine(
                column=column,
                model=computed[column.metric] if column.split == DEV else own[choice.run.seed],
                mean=mean_over_seeds(list(own.values())),
                std=std_over_seeds(list(own.values())),
                low=low,
                high=high,
                seeds=len(own),
                teacher=mean_over_seeds(above),
                majority=recorded if column.name == choice.metric else None,
            )
        )
    return tuple(lines)


def _interval(runs: list[Run], column: ScoreColumn, outputs: int, kind: str) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a row's mean on new examples, and of new seeds where there are several."""
    found = [predictions_of(run, column.split) for run in runs]
    predicted = np.stack([KINDS[kind].by_example(each.rows, KINDS[kind].predicted(each.logits)) for each in found])
    labels = KINDS[kind].by_example(found[0].rows, found[0].labels)
    mean = mean_score(labels, predicted, column.metric, classes=outputs)
    low, high = max(mean.low, mean.bounds[0]), min(mean.high, mean.bounds[1])
    return (None, None) if np.isnan(low) or np.isnan(high) else (float(low), float(high))
