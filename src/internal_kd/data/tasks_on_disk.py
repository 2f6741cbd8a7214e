"""A task's examples as verified Parquet: what ``fetch_task`` writes and everything later reads.

``data/tasks/<task>-<fp>/<split>.parquet`` holds the columns idx (int64, unique in its split), text_a, text_b (pairs
only), label (int64 class index, or float64 for regression; -1 where a test set has none) and, for generated tasks,
phenomenon. ``manifest.json`` says what the task is and how many rows of which label each split has; licence and
metrics of one's own files are not in it, but in the parameters, where they may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from internal_kd.artefacts import TaskData
from internal_kd.errors import UserError
from internal_kd.files import describe_files, publish_folder, read_json, sha256_file, staging_folder, write_json
from internal_kd.identity import plain
from internal_kd.params.sources import FilesEntry

if TYPE_CHECKING:
    import pandas as pd

UNLABELLED = -1
# Small row groups let the tokeniser stream a split without holding all of it.
ROW_GROUP = 8192


@dataclass(frozen=True)
class Examples:
    """The rows of one split and how many were left out, by reason."""

    table: pa.Table
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FetchedTask:
    """A task as it was read from its source. ``labels`` is empty for regression; the first metric is the main one."""

    title: str
    source: str
    licence: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    regression: bool
    splits: dict[str, Examples]

    @property
    def text_columns(self) -> int:
        """1 for single texts, 2 for pairs."""
        return 2 if "text_b" in self.splits["train"].table.column_names else 1


@dataclass(frozen=True)
class TaskOnDisk:
    """A fetched task: what its manifest says, and the way to its rows."""

    folder: Path
    task: str
    title: str
    source: str
    licence: str
    labels: tuple[str, ...]
    regression: bool
    classes: int
    metrics: tuple[str, ...]
    text_columns: int
    splits: dict[str, dict[str, Any]]

    def path(self, split: str) -> Path:
        """Return where a split's Parquet file lies.

        Raises:
            UserError: the task has no such split.
        """
        if split not in self.splits:
            raise UserError(f"task {self.task} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.folder / f"{split}.parquet"

    def frame(self, split: str) -> pd.DataFrame:
        """Return a split's rows.

        Raises:
            UserError: the file is damaged.
        """
        with reading(self.path(split)):
            return pq.read_table(self.path(split)).to_pandas()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell of a fetched file that cannot be read in one line; it is ours, so that it can be fetched again.

    Raises:
        UserError: the file is damaged.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"{path} cannot be read ({reason}): delete its folder and run again") from None


def examples_of(
    idx: Sequence[int],
    texts: Sequence[Sequence[str]],
    labels: Sequence[int] | Sequence[float],
    *,
    regression: bool = False,
    dropped: dict[str, int] | None = None,
    phenomena: Sequence[str] | None = None,
) -> Examples:
    """Return the rows of a split with the columns in their order; ``texts`` holds one or two columns."""
    columns: dict[str, pa.Array] = {"idx": pa.array(idx, pa.int64())}
    columns |= {name: pa.array(text, pa.string()) for name, text in zip(("text_a", "text_b"), texts, strict=False)}
    columns["label"] = pa.array(labels, pa.float64() if regression else pa.int64())
    if phenomena is not None:
        columns["phenomenon"] = pa.array(phenomena, pa.string())
    return Examples(pa.table(columns), {reason: count for reason, count in (dropped or {}).items() if count})


def check_task(name: str, task: FetchedTask) -> None:
    """Refuse what nothing can be learnt from or scored on.

    Raises:
        UserError: a split without rows, training examples of one class or of one value, or an idx that stands twice.
    """
    for split, examples in task.splits.items():
        table = examples.table
        if table.num_rows == 0:
            raise UserError(f"tasks.{name}: {split} holds no examples; give a file with rows")
        if pc.count_distinct(table["idx"]).as_py() != table.num_rows:
            raise UserError(f"tasks.{name}: {split} holds an example id twice; every row needs its own")
    train = task.splits["train"].table
    seen = pc.unique(train["label"]).to_pylist()
    if len(seen) < 2:
        what = f"value {seen[0]}" if task.regression else f"label {task.labels[seen[0]]!r}"
        raise UserError(
            f"tasks.{name}: all {train.num_rows} training examples have the {what}; training needs at least two"
        )


def metrics_of(task: str, entry: FilesEntry, classes: int) -> tuple[str, ...]:
    """Return what one's own files are scored by, the main metric first; ``classes`` is 1 for regression.

    Raises:
        UserError: a metric does not suit the number of classes.
    """
    if "f1" in entry.metrics and classes > 2:
        raise UserError(f"tasks.{task}.metrics: f1 is for two classes, this task has {classes}: take macro_f1")
    if entry.type == "regression":
        return entry.metrics or ("pearson", "spearman")
    return entry.metrics or (("accuracy", "f1") if classes == 2 else ("accuracy",))


def write_task(data: TaskData, task: FetchedTask) -> None:
    """Write a task's splits and its manifest, whole or not at all.

    Raises:
        UserError: the disk is full or a file read back has other rows than were written.
    """
    with staging_folder(data.folder) as staged:
        splits = {split: _write_split(staged, split, examples, task) for split, examples in task.splits.items()}
        manifest = {
            "fingerprint": data.fingerprint,
            "recipe": data.recipe,
            "params": plain(data.params()),
            "inputs": data.inputs(),
            "task": data.name,
            "title": task.title,
            "source": task.source,
            "licence": task.licence,
            "labels": list(task.labels),
            "regression": task.regression,
            "classes": 1 if task.regression else len(task.labels),
            "metrics": list(task.metrics),
            "text_columns": task.text_columns,
            "splits": splits,
            "files": describe_files(staged, [f"{split}.parquet" for split in splits]),
        }
        if isinstance(data.entry, FilesEntry):
            del manifest["licence"], manifest["metrics"]
        write_json(staged / data.marker.name, manifest)
        publish_folder(staged, data.folder, last=data.marker.name)


def _write_split(staged: Path, split: str, examples: Examples, task: FetchedTask) -> dict[str, Any]:
    path = staged / f"{split}.parquet"
    pq.write_table(examples.table, path, row_group_size=ROW_GROUP)
    if not pq.read_table(path).equals(examples.table):
        raise UserError(f"{path.name} read back differs from what was written: check the disk and start again")
    return {
        "rows": examples.table.num_rows,
        "sha256": sha256_file(path),
        "label_shares": _label_shares(examples.table, task),
        "dropped": dict(sorted(examples.dropped.items())),
    }


def _label_shares(table: pa.Table, task: FetchedTask) -> dict[str, float]:
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(table["label"]).to_pylist()}
    if task.regression or UNLABELLED in counts:
        return {}
    return {label: counts.get(index, 0) / table.num_rows for index, label in enumerate(task.labels)}


def read_task(data: TaskData) -> TaskOnDisk:
    """Read the manifest of a fetched task; licence and metrics of one's own files are what the parameters say now.

    Raises:
        UserError: the task was not fetched, its manifest is cut short, or a metric does not suit it.
    """
    manifest = read_json(data.marker)
    if isinstance(data.entry, FilesEntry):
        metrics = metrics_of(data.name, data.entry, manifest["classes"])
        manifest |= {"licence": data.entry.licence, "metrics": metrics}
    return TaskOnDisk(
        folder=data.folder,
        task=manifest["task"],
        title=manifest["title"],
        source=manifest["source"],
        licence=manifest["licence"],
        labels=tuple(manifest["labels"]),
        regression=manifest["regression"],
        classes=manifest["classes"],
        metrics=tuple(manifest["metrics"]),
        text_columns=manifest["text_columns"],
        splits=manifest["splits"],
    )
