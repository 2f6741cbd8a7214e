"""What is known of an export: measured here, or read from the study's tables and the student's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from internal_kd.analysis.figures import Numbers
from internal_kd.artefacts import TeacherRun
from internal_kd.data.tasks_on_disk import TaskOnDisk
from internal_kd.deployment.choice import Choice
from internal_kd.deployment.contestants import TORCH, LatencyLine
from internal_kd.deployment.model_folder import Agreement
from internal_kd.study import Study

# Of the torch model, the ONNX graph and the int8 one, by metric; None where a metric is not defined.
Scores = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class OnnxFacts:
    """The graphs: how far fp32 and int8 are from torch's fp32, and what they were made with."""

    fp32: Agreement
    int8: Agreement
    versions: str


@dataclass(frozen=True)
class ExportFacts:
    """An exported student.

    ``record`` is its run.json, ``encoder`` the encoder's manifest; ``as_predicted`` holds its fp32 logits beside the
    recorded predictions; ``files`` are the folder's but for the card, with their bytes, by path; ``onnx`` is None
    where the packages for it are not installed.
    """

    study: Study
    choice: Choice
    task: TaskOnDisk
    numbers: Numbers
    teacher: TeacherRun
    record: Mapping[str, Any]
    encoder: Mapping[str, Any]
    as_predicted: Agreement
    files: Mapping[str, int]
    scores: Scores
    latency: tuple[LatencyLine, ...]
    machine: str
    versions: str
    onnx: OnnxFacts | None

    def dev_score(self, name: str) -> float | None:
        """Return this model's score under a metric of the tables, as the folder computes it, in fp32.

        A second dev set is not predicted anew: there it is what was recorded after training.
        """
        if name in self.scores[TORCH]:
            return self.scores[TORCH][name]
        recorded = self.numbers.scores.get((*self.choice.cell.key, name), [])
        return next((score.value for score in recorded if score.fingerprint == self.choice.run.fingerprint), None)

    def as_json(self) -> dict[str, Any]:
        """Return what ``export.json`` says of it."""
        run, choice = self.choice.run, self.choice
        return {
            "task": self.task.task,
            "files": dict(self.files),
            "run": {"label": run.label, "fingerprint": run.fingerprint, "folder": str(run.folder)},
            "choice": {
                "metric": choice.metric,
                "method": choice.cell.method,
                "method_given": choice.method_given,
                "compared": [candidate.method for candidate in choice.compared],
                "candidates": [asdict(candidate) for candidate in choice.candidates],
                "seed": run.seed,
                "value": choice.value,
                "seeds": list(choice.values),
                "seeds_with_weights": choice.kept,
                "mean": choice.summary.mean,
                "std": choice.std,
                "interval": [choice.summary.low, choice.summary.high],
            },
            "as_predicted": {**asdict(self.as_predicted), "precision_of_predictions": self.record["precision"]},
            "dev_scores": {name: dict(values) for name, values in self.scores.items()},
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
