"""The GLUE tasks: what each is called, where its columns lie and how it is scored.

Sources: the official GLUE folder and its starter code for the TSV layouts, the Parquet layout of ``nyu-mll/glue`` on
the Hugging Face hub for the column names, Wang et al. 2018 for the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from internal_kd.tasks.info import TaskInfo


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
        name: its key in parameters and folders.
        title: its name in tables.
        folder: its folder in the official download.
        hub_config: its configuration on the hub.
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
    folder: str
    hub_config: str
    text: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    splits: dict[str, TsvLayout]
    hub_splits: dict[str, str]
    licence: str = "see the task's owners; research use"
    kind: str = "classes"
    label_range: tuple[float, float] | None = None

    def info(self, rows: Mapping[str, int], source: str) -> TaskInfo:
        """Return the task's facts.

        Args:
            rows: number of examples by split.
            source: where the examples came from.
        """
        return TaskInfo(
            name=self.name,
            title=self.title,
            kind=self.kind,
            labels=self.labels,
            metrics=self.metrics,
            texts=len(self.text),
            rows=dict(rows),
            licence=self.licence,
            source=source,
        )


_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_ENTAILMENT = ("entailment", "not_entailment")


def _tsv(text: tuple[str | int, ...], label: str | int | None, **files: str) -> dict[str, TsvLayout]:
    return {split: TsvLayout(file, text, None if split.startswith("test") else label) for split, file in files.items()}


GLUE: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            name="cola",
            title="CoLA",
            folder="CoLA",
            hub_config="cola",
            text=("sentence",),
            labels=("unacceptable", "acceptable"),
            metrics=("matthews_correlation", "accuracy"),
            splits={
                "train": TsvLayout("train.tsv", (3,), 1, header=False),
                "dev": TsvLayout("dev.tsv", (3,), 1, header=False),
                "test": TsvLayout("test.tsv", ("sentence",), None),
            },
            hub_splits=_HUB_SPLITS,
        ),
        GlueTask(
            name="sst2",
            title="SST-2",
            folder="SST-2",
            hub_config="sst2",
            text=("sentence",),
            labels=("negative", "positive"),
            metrics=("accuracy",),
            splits=_tsv(("sentence",), "label", train="train.tsv", dev="dev.tsv", test="test.tsv"),
            hub_splits=_HUB_SPLITS,
        ),
        GlueTask(
            name="mrpc",
            title="MRPC",
            folder="MRPC",
            hub_config="mrpc",
            text=("sentence1", "sentence2"),
            labels=("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
            splits=_tsv(("#1 String", "#2 String"), "Quality", train="train.tsv", dev="dev.tsv", test="test.tsv"),
            hub_splits=_HUB_SPLITS,
        ),
        GlueTask(
            name="stsb",
            title="STS-B",
            folder="STS-B",
            hub_config="stsb",
            text=("sentence1", "sentence2"),
            labels=(),
            metrics=("pearson", "spearman"),
            splits=_tsv(("sentence1", "sentence2"), "score", train="train.tsv", dev="dev.tsv", test="test.tsv"),
            hub_splits=_HUB_SPLITS,
            kind="values",
            label_range=(0.0, 5.0),
        ),
        GlueTask(
            name="qqp",
            title="QQP",
            folder="QQP",
            hub_config="qqp",
            text=("question1", "question2"),
            labels=("not_duplicate", "duplicate"),
            metrics=("accuracy", "f1"),
            splits=_tsv(("question1", "question2"), "is_duplicate", train="train.tsv", dev="dev.tsv", test="test.tsv"),
            hub_splits=_HUB_SPLITS,
        ),
        GlueTask(
            name="mnli",
            title="MNLI",
            folder="MNLI",
            hub_config="mnli",
            text=("premise", "hypothesis"),
            labels=("entailment", "neutral", "contradiction"),
            metrics=("accuracy",),
            splits=_tsv(
                ("sentence1", "sentence2"),
                "gold_label",
                train="train.tsv",
                dev="dev_matched.tsv",
                dev_mismatched="dev_mismatched.tsv",
                test="test_matched.tsv",
                test_mismatched="test_mismatched.tsv",
            ),
            hub_splits={
                "train": "train",
                "dev": "validation_matched",
                "dev_mismatched": "validation_mismatched",
                "test": "test_matched",
                "test_mismatched": "test_mismatched",
            },
        ),
        GlueTask(
            name="qnli",
            title="QNLI",
            folder="QNLI",
            hub_config="qnli",
            text=("question", "sentence"),
            labels=_ENTAILMENT,
            metrics=("accuracy",),
            splits=_tsv(("question", "sentence"), "label", train="train.tsv", dev="dev.tsv", test="test.tsv"),
            hub_splits=_HUB_SPLITS,
        ),
        GlueTask(
            name="rte",
            title="RTE",
            folder="RTE",
            hub_config="rte",
            text=("sentence1", "sentence2"),
            labels=_ENTAILMENT,
            metrics=("accuracy",),
            splits=_tsv(("sentence1", "sentence2"), "label", train="train.tsv", dev="dev.tsv", test="test.tsv"),
            hub_splits=_HUB_SPLITS,
        ),
        GlueTask(
            name="wnli",
            title="WNLI",
            folder="WNLI",
            hub_config="wnli",
            text=("sentence1", "sentence2"),
            labels=("not_entailment", "entailment"),
            metrics=("accuracy",),
            splits=_tsv(("sentence1", "sentence2"), "label", train="train.tsv", dev="dev.tsv", test="test.tsv"),
            hub_splits=_HUB_SPLITS,
        ),
    )
}
