"""The kinds of tasks: what an example's label is, and how logits become a prediction.

Everything that depends on the kind of a task is asked here, so that a new kind is one more entry of ``KINDS``.
Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from internal_kd.registry import Registry
from internal_kd.tasks.tags import by_sentence

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class TaskKind:
    """What depends on the kind of a task.

    Attributes:
        title: what a person calls it, for messages.
        label_type: dtype of a label, in numpy and torch alike.
        outputs: from the class names to the number of columns of logits.
        predicted: from logits (rows, outputs) to predicted classes or values (rows,).
        by_example: from the ids of rows of logits (R,) and labels or predictions (R,) to what metrics take: as they are
            where a row is an example, (sentences, longest) for tags.
        default_metrics: from the class names to the metrics of a task that names none, main metric first.
        named_labels: whether a task of this kind names its labels.
        row: what one row of logits is about.
        answer: what is predicted of it, for people.
        constant: the best answer that is the same for all, for people.
    """

    title: str
    label_type: Literal["int64", "float32"]
    outputs: Callable[[tuple[str, ...]], int]
    predicted: Callable[[np.ndarray], np.ndarray]
    default_metrics: Callable[[tuple[str, ...]], tuple[str, ...]]
    answer: str
    constant: str
    by_example: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda rows, values: values
    named_labels: bool = True
    row: Literal["example", "token"] = "example"


def _highest(logits: np.ndarray) -> np.ndarray:
    return logits.argmax(axis=-1)


def _only_column(logits: np.ndarray) -> np.ndarray:
    return logits[..., 0]


def _metrics_of_classes(labels: tuple[str, ...]) -> tuple[str, ...]:
    return ("accuracy", "f1") if len(labels) == 2 else ("accuracy",)


KINDS: Registry[TaskKind] = Registry(
    "kind of task",
    {
        "classes": TaskKind(
            title="classification",
            label_type="int64",
            outputs=len,
            predicted=_highest,
            default_metrics=_metrics_of_classes,
            answer="class",
            constant="majority class",
        ),
        "values": TaskKind(
            title="regression",
            label_type="float32",
            outputs=lambda labels: 1,
            predicted=_only_column,
            default_metrics=lambda labels: ("pearson", "spearman"),
            answer="value",
            constant="mean of the labels",
            named_labels=False,
        ),
        # Numbers of tags, in the order of tags.tag_names.
        "tags": TaskKind(
            title="tagging",
            label_type="int64",
            outputs=len,
            predicted=_highest,
            default_metrics=lambda labels: ("span_f1", "macro_span_f1", "span_precision", "span_recall"),
            answer="tag",
            constant="most frequent tag",
            by_example=by_sentence,
            row="token",
        ),
    },
)
