"""The table of tasks: what each GLUE task is called, where its columns lie and how it is scored; and all metrics.

Sources: the official GLUE folder and its starter code for the TSV layouts, the Parquet layout of ``nyu-mll/glue``
on the Hugging Face hub for the column names, Wang et al. 2018 for the metrics. This module imports nothing heavy:
the Snakefile and ``internal-kd --help`` read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast


@dataclass(frozen=True)
class Metric:
    """What predictions may be scored by; ``function`` is given labels and predicted classes or values, (examples,)."""

    function: str
    regression: bool = False
    higher_is_better: bool = True

    def resolve(self) -> Callable[..., float]:
        """Import and return the function."""
        module, _, name = self.function.partition(":")
        return cast("Callable[..., float]", getattr(import_module(module), name))


_FUNCTIONS = "internal_kd.metrics"

METRICS: dict[str, Metric] = {
    "accuracy": Metric(f"{_FUNCTIONS}:accuracy"),
    "f1": Metric(f"{_FUNCTIONS}:f1"),
    "macro_f1": Metric(f"{_FUNCTIONS}:macro_f1"),
    "matthews_correlation": Metric(f"{_FUNCTIONS}:matthews_correlation"),
    "pearson": Metric(f"{_FUNCTIONS}:pearson", regression=True),
    "spearman": Metric(f"{_FUNCTIONS}:spearman", regression=True),
    "mse": Metric(f"{_FUNCTIONS}:mse", regression=True, higher_is_better=False),
}
HIGHER_IS_BETTER = {name: metric.higher_is_better for name, metric in METRICS.items()}


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

    ``splits`` maps our split names (train, dev, dev_mismatched, test, test_mismatched) to TSV files of the official
    folder; ``hub_splits`` maps them to the hub's. ``labels`` is empty for a regression task. The first metric is the
    one used in figures and for choosing between students.
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
    regression: bool = False
    label_range: tuple[float, float] | None = None

    @property
    def classes(self) -> int:
        """Number of output columns: the classes, or 1 for regression."""
        return 1 if self.regression else len(self.labels)


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
            regression=True,
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
