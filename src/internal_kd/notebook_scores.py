"""Scoring a student in a notebook: logits of the dev set, labels and predictions as metrics take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.data.cells import shown
from internal_kd.errors import UserError
from internal_kd.learners.learner import Network
from internal_kd.notebook_data import types_among
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import score
from internal_kd.tasks.tags import tag_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from internal_kd.data.ragged import EncodedExamples


def numbers_of(model: PreTrainedModel) -> dict[str, int]:
    """Return the numbers of a model's classes or tags by name."""
    return {str(name): int(number) for number, name in (model.config.id2label or {}).items()}


def order_of_tags(model: PreTrainedModel) -> np.ndarray:
    """Return a token classifier's columns in the order of ``tag_names``.

    Raises:
        UserError: its tags are not O, B- and I- of some types.
    """
    numbers = numbers_of(model)
    expected = tag_names(types_among(numbers))
    if set(expected) != set(numbers):
        raise UserError(
            f"Distiller: the student's tags are {shown(numbers)}; name them O, and B-<type> and I-<type> for every "
            "type, in config.id2label"
        )
    return np.array([numbers[tag] for tag in expected])


class NotebookScorer:
    """Scores the student on the dev set; ``order`` are its columns in the order of ``tags.tag_names``."""

    def __init__(
        self,
        network: Network,
        examples: EncodedExamples,
        hardware: Any,
        kind: str,
        order: np.ndarray,
        metrics: tuple[str, ...],
    ) -> None:
        self._network, self._examples, self._hardware = network, examples, hardware
        self._kind, self._order, self.metrics = KINDS[kind], order, metrics

    def logits(self) -> np.ndarray:
        """Return logits of every row, (rows, outputs), in the student's own order."""
        from internal_kd.distillation.predicting import predict_logits

        return predict_logits(self._network, self._examples, self._hardware)

    def compared(self, logits: np.ndarray, *, known: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and predictions as metrics take them; of all rows, or of those with a known label."""
        from internal_kd.distillation.batches import labels_of, rows_of

        everything = np.arange(len(self._examples))
        rows, labels = rows_of(self._examples, everything), labels_of(self._examples, everything)
        if labels.dtype.kind == "i":
            labels = np.where(labels >= 0, np.argsort(self._order)[labels], labels)
        chosen = ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0
        chosen = chosen if known else np.ones_like(chosen)
        predicted = self._kind.predicted(logits[:, self._order])
        labels, predicted = (self._kind.by_example(rows[chosen], values[chosen]) for values in (labels, predicted))
        return labels, predicted

    def scores(self, logits: np.ndarray | None = None) -> dict[str, float | None]:
        """Return the present scores by metric; None where a metric is not defined."""
        logits = self.logits() if logits is None else logits
        labels, predicted = self.compared(logits, known=True)
        found = {name: score(labels, predicted, name, logits.shape[1]) for name in self.metrics}
        return {name: value if np.isfinite(value) else None for name, value in found.items()}
