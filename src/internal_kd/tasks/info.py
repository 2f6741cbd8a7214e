"""What is known of a task: the one carrier of its facts, from the data on disk to the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple

from internal_kd.errors import UserError
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import METRICS
from internal_kd.tasks.tags import types_of


class ScoreColumn(NamedTuple):
    """A column of scores: its name in tables, the metric, and the dev set."""

    name: str
    metric: str
    split: str


@dataclass(frozen=True)
class TaskInfo:
    """A task's facts.

    Attributes:
        name: its key in parameters and folders.
        title: its name in tables.
        kind: a key of ``KINDS``: ``"classes"``, ``"values"`` or ``"tags"``.
        labels: names of the classes or tags in the order of their numbers; empty for values.
        metrics: keys of ``METRICS``, main metric first.
        texts: number of text columns, 1 or 2; 0 for images.
        rows: number of examples by split (train, dev, dev_mismatched, test, unlabelled, ...).
        scored_on: what people call the examples that scores are on, the split "dev".

    Raises:
        UserError: the kind or a metric is unknown, or they do not fit each other or the labels.

    Example:
        >>> task = TaskInfo("mine", "Mine", "classes", ("no", "yes"), ("accuracy", "f1"), 1, {"train": 80, "dev": 20})
        >>> task.outputs
        2
    """

    name: str
    title: str
    kind: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    texts: int
    rows: dict[str, int]
    licence: str = ""
    source: str = ""
    scored_on: Literal["dev set", "test set"] = "dev set"

    def __post_init__(self) -> None:
        kind = KINDS[self.kind]
        if bool(self.labels) != kind.named_labels:
            named = f"{len(self.labels)} label names" if self.labels else "no label names"
            raise UserError(f"task {self.name!r}: {named}, but its kind is {self.kind!r} ({kind.title})")
        if self.kind == "tags":
            types_of(self.labels)
        if not self.metrics:
            raise UserError(f"task {self.name!r}: no metrics; name one or more of {', '.join(METRICS)}")
        for metric in self.metrics:
            if METRICS[metric].kind != self.kind:
                fitting = ", ".join(name for name in METRICS if METRICS[name].kind == self.kind)
                raise UserError(f"task {self.name!r}: {metric} does not score {kind.title}; choose from {fitting}")
        if "f1" in self.metrics and len(self.labels) > 2:
            raise UserError(f"task {self.name!r}: f1 needs two classes, not {len(self.labels)}; use macro_f1")

    @property
    def outputs(self) -> int:
        """Columns of logits: the number of classes, or 1 for values."""
        return KINDS[self.kind].outputs(self.labels)

    @property
    def columns(self) -> tuple[ScoreColumn, ...]:
        """Its columns of scores, main metric first; on another dev set a metric has that set's ending.

        Example:
            >>> TaskInfo("x", "X", "classes", ("a", "b"), ("accuracy",), 1, {"dev": 9, "dev_other": 9}).columns[1]
            ScoreColumn(name='accuracy_other', metric='accuracy', split='dev_other')
        """
        splits = ("dev", *(split for split in self.rows if split.startswith("dev_")))
        return tuple(ScoreColumn(m + split.removeprefix("dev"), m, split) for split in splits for m in self.metrics)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return {**asdict(self), "labels": list(self.labels), "metrics": list(self.metrics)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TaskInfo:
        """Return the facts that ``to_json`` wrote.

        Raises:
            UserError: a field is missing, unknown or has the wrong type.
        """
        values = {"scored_on": "dev set", **values}
        known = {field.name for field in fields(cls)}
        if odd := sorted(known.symmetric_difference(values)):
            raise UserError(f"the task's facts have missing or unknown fields: {', '.join(odd)}")
        rows = values["rows"]
        of_text = all(isinstance(values[name], str) for name in ("name", "title", "kind", "licence", "source"))
        of_lists = all(
            isinstance(values[name], list) and all(isinstance(entry, str) for entry in values[name])
            for name in ("labels", "metrics")
        )
        of_text = of_text and values["scored_on"] in ("dev set", "test set")
        of_rows = isinstance(rows, dict) and all(isinstance(count, int) for count in rows.values())
        if not (of_text and of_lists and of_rows and isinstance(values["texts"], int)):
            raise UserError("the task's facts have a field of the wrong type")
        return cls(**{**values, "labels": tuple(values["labels"]), "metrics": tuple(values["metrics"])})
