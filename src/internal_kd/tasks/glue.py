"""The GLUE tasks: what each is called, where its columns lie and how it is scored.

Sources: the official GLUE folder and its starter code for the TSV layouts, the Parquet layout of ``nyu-mll/glue`` on
the Hugging Face hub for the column names, Wang et al. 2018 for the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from internal_kd.tasks.info import TaskInfo

_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class TsvLayout:
    """Where the columns of a GLUE TSV file lie.

    ``text``, ``label`` and ``idx`` are header names, or 0-based positions where the file has no header.
    """

    file: str
    text: tuple[str | int, ...]
    label: str | int | None
    header: bool = True


@dataclass(frozen=True)
class GlueTask:
    """One GLUE task.

    Attributes:
        name: its key in parameters and folders, and its configuration on the hub.
        title: its name in tables, and its folder in the official download.
        text: names of its one or two text columns on the hub.
        labels: names of the classes in the order of their numbers; empty for a task of values.
        metrics: main metric first.
        splits: our split names (train, dev, dev_mismatched, test, test_mismatched) to TSV files of the official folder.
        hub_splits: our split names to the hub's.
        kind: a key of ``KINDS``.
        label_range: lowest and highest label of a task of values.
    """

    name: str
    title: str
    text: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    splits: dict[str, TsvLayout]
    hub_splits: Mapping[str, str] = field(default_factory=lambda: _HUB_SPLITS)
    kind: str = "classes"
    label_range: tuple[float, float] | None = None

    def info(self, rows: Mapping[str, int], source: str) -> TaskInfo:
        """Return the task's facts."""
        return TaskInfo(
            name=self.name,
            title=self.title,
            kind=self.kind,
            labels=self.labels,
            metrics=self.metrics,
            texts=len(self.text),
            rows=dict(rows),
            licence="see the task's owners; research use",
            source=source,
        )


_FILES = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
_MNLI_FILES = {
    "train": "train.tsv", "dev": "dev_matched.tsv", "dev_mismatched": "dev_mismatched.tsv",
    "test": "test_matched.tsv", "test_mismatched": "test_mismatched.tsv",
}  # fmt: skip
_MNLI_ON_HUB = {
    "train": "train", "dev": "validation_matched", "dev_mismatched": "validation_mismatched",
    "test": "test_matched", "test_mismatched": "test_mismatched",
}  # fmt: skip
_ONE, _TWO, _ENTAILMENT = ("sentence",), ("sentence1", "sentence2"), ("entailment", "not_entailment")


def _tsv(text: tuple[str, ...], label: str, files: Mapping[str, str] = _FILES) -> dict[str, TsvLayout]:
    return {split: TsvLayout(file, text, None if split.startswith("test") else label) for split, file in files.items()}


_COLA = TsvLayout("train.tsv", (3,), 1, header=False)
GLUE: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            "cola", "CoLA", _ONE, ("unacceptable", "acceptable"), ("matthews_correlation", "accuracy"),
            {"train": _COLA, "dev": replace(_COLA, file="dev.tsv"), "test": TsvLayout("test.tsv", _ONE, None)},
        ),
        GlueTask("sst2", "SST-2", _ONE, ("negative", "positive"), ("accuracy",), _tsv(_ONE, "label")),
        GlueTask(
            "mrpc", "MRPC", _TWO, ("not_equivalent", "equivalent"), ("accuracy", "f1"),
            _tsv(("#1 String", "#2 String"), "Quality"),
        ),
        GlueTask(
            "stsb", "STS-B", _TWO, (), ("pearson", "spearman"), _tsv(_TWO, "score"),
            kind="values", label_range=(0.0, 5.0),
        ),
        GlueTask(
            "qqp", "QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1"),
            _tsv(("question1", "question2"), "is_duplicate"),
        ),
        GlueTask(
            "mnli", "MNLI", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), ("accuracy",),
            _tsv(_TWO, "gold_label", _MNLI_FILES), _MNLI_ON_HUB,
        ),
        GlueTask(
            "qnli", "QNLI", ("question", "sentence"), _ENTAILMENT, ("accuracy",),
            _tsv(("question", "sentence"), "label"),
        ),
        GlueTask("rte", "RTE", _TWO, _ENTAILMENT, ("accuracy",), _tsv(_TWO, "label")),
        GlueTask("wnli", "WNLI", _TWO, _ENTAILMENT[::-1], ("accuracy",), _tsv(_TWO, "label")),
    )
}  # fmt: skip
