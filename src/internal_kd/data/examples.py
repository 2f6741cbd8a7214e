"""A task's examples as verified Parquet: what ``fetch_task`` writes and everything later reads.

``data/tasks/<task>-<fp>/<split>.parquet`` has the columns idx (int64, unique over train and unlabelled, and in every
other split), text_a, text_b (pairs only), label (int64 class index, -1 if there is none; or float64, null if there is
none) and, for generated tasks, phenomenon. Tags have the column tokens (list of words, in the order of the text) beside
the text, and a list of numbers as label. Images have the column image in the place of texts: bytes, row by row; the
metadata of its type names height, width and channels. ``manifest.json`` has the task's facts and the share of every
label; licence and metrics of a user's own files are parameters, where they may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from internal_kd.checksums import publish, sha256_file, verified
from internal_kd.errors import UserError
from internal_kd.files import read_mapping, staging_folder
from internal_kd.params.data import OWN, FilesEntry, ImagesEntry
from internal_kd.plan.artefacts import Artefact, Data
from internal_kd.plan.identity import plain
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.kinds import KINDS

if TYPE_CHECKING:
    import pandas as pd

# The class index of an example without a label.
NO_CLASS = -1
# Small row groups let the tokenizer stream a split without all of it in memory.
ROW_GROUP = 8192


@dataclass(frozen=True)
class Examples:
    """The rows of one split, and how many were left out, by reason."""

    table: pa.Table
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FetchedTask:
    """A task as read from its source; ``warnings`` are what is suspicious about it, one line each."""

    info: TaskInfo
    splits: dict[str, Examples]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskOnDisk:
    """A fetched task.

    Attributes:
        folder: where it lies.
        info: the task's facts; metrics and licence of a user's own files as the parameters state them now.
        sha256: of each split's file.
        warnings: what is suspicious about the examples, one line each.
    """

    folder: Path
    info: TaskInfo
    sha256: dict[str, str]
    warnings: tuple[str, ...]
    manifest: dict[str, Any]

    def path(self, split: str) -> Path:
        """Return a split's Parquet file, compared with its checksum once per process.

        Raises:
            UserError: the task has no such split.
            Damaged: the file is not what was written.
        """
        if split not in self.info.rows:
            raise UserError(f"task {self.info.name} has no split {split!r}; it has {', '.join(self.info.rows)}")
        verified(self.folder, self.manifest, [f"{split}.parquet"])
        return self.folder / f"{split}.parquet"

    def table(self, split: str) -> pa.Table:
        """Return a split's rows as an Arrow table; errors as ``path``."""
        return pq.read_table(self.path(split))

    def frame(self, split: str) -> pd.DataFrame:
        """Return a split's rows; errors as ``path``."""
        return self.table(split).to_pandas()

    @property
    def training(self) -> tuple[str, ...]:
        """The splits that are trained on: train and, if there is one, unlabelled."""
        return tuple(split for split in ("train", "unlabelled") if split in self.info.rows)

    def columns(self, names: Sequence[str], splits: Sequence[str]) -> list[list[Any]]:
        """Return columns of some splits, one after the other; errors as ``path``."""
        tables = [self.table(split) for split in splits]
        return [[cell for table in tables for cell in table[name].to_pylist()] for name in names]

    def texts(self, splits: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Return id and texts of every example of some splits; errors as ``path``."""
        columns = self.columns(("idx", "text_a", "text_b")[: 1 + self.info.texts], splits)
        return ((idx, tuple(texts)) for idx, *texts in zip(*columns, strict=True))


def manifest_of(artefact: Artefact) -> dict[str, Any]:
    """Return what every manifest begins with: what the artefact is and what it was made from."""
    return {
        "fingerprint": artefact.fingerprint,
        "recipe": artefact.recipe,
        "params": plain(artefact.params()),
        "inputs": {role: read.fingerprint for role, read in artefact.reads().items()},
    }


def examples_of(
    idx: Sequence[int],
    texts: Sequence[Sequence[str]],
    labels: Sequence[int] | Sequence[float] | None,
    *,
    kind: str = "classes",
    dropped: dict[str, int] | None = None,
    phenomena: Sequence[str] | None = None,
) -> Examples:
    """Return the rows of a split with the columns in their order, and how many were left out, by reason.

    ``texts`` are one or two columns; ``labels`` class indices or values, None for a split without them.
    """
    columns: dict[str, pa.Array] = {"idx": pa.array(idx, pa.int64())}
    columns |= {name: pa.array(text, pa.string()) for name, text in zip(("text_a", "text_b"), texts, strict=False)}
    floating = KINDS[kind].label_type == "float32"
    without: list[Any] = [None if floating else NO_CLASS] * len(idx)
    columns["label"] = pa.array(without if labels is None else labels, pa.float64() if floating else pa.int64())
    if phenomena is not None:
        columns["phenomenon"] = pa.array(phenomena, pa.string())
    return Examples(pa.table(columns), {reason: count for reason, count in (dropped or {}).items() if count})


def next_id(task: FetchedTask) -> int:
    """Return the first id after those of train, from which those of unlabelled go on: an id means one example."""
    return pc.max(task.splits["train"].table["idx"]).as_py() + 1


def more_texts(task: FetchedTask, texts: Sequence[Sequence[str]]) -> Examples:
    """Return texts, one or two columns, as rows without labels whose ids go on where those of train end."""
    first = next_id(task)
    return examples_of(range(first, first + len(texts[0])), texts, None, kind=task.info.kind)


def with_unlabelled(task: FetchedTask, unlabelled: Examples) -> FetchedTask:
    """Return a task with further rows, without labels, as its split "unlabelled"."""
    splits = {**task.splits, "unlabelled": unlabelled}
    return replace(task, info=replace(task.info, rows=rows_by_split(splits)), splits=splits)


def text_columns(data: Data, texts: int) -> list[tuple[str, ...]]:
    """Return what the one or two text columns of further files of a task may be called, best first.

    A user's own task has its own names; the others those of their source, or ``text``, or ``text_a`` and ``text_b``.
    """
    if isinstance(data.entry, FilesEntry):
        return [data.entry.text]
    source = [GLUE[data.glue].text] if data.glue is not None else []
    return [*source, *([("text_a", "text_b")] if texts == 2 else [("text",), ("text_a",)])]


def rows_by_split(splits: dict[str, Examples]) -> dict[str, int]:
    """Return the number of rows of every split."""
    return {split: examples.table.num_rows for split, examples in splits.items()}


def check_split(task: str, split: str, examples: Examples, labels: Sequence[str]) -> None:
    """Refuse what nothing can be learned from or scored on.

    Raises:
        UserError: a split without rows, an id that occurs twice, or training examples of one class or of one value.
    """
    table = examples.table
    if table.num_rows == 0:
        raise UserError(f"tasks.{task}: {split} has no examples; give a file with rows")
    if pc.count_distinct(table["idx"]).as_py() != table.num_rows:
        raise UserError(f"tasks.{task}: {split} has an example id twice; every row needs its own")
    seen = pc.unique(each_label(table)).to_pylist() if split == "train" else []
    if len(seen) == 1:
        what = f"label {labels[seen[0]]!r}" if labels else f"value {seen[0]}"
        raise UserError(
            f"tasks.{task}: all {table.num_rows} training examples have the {what}; training needs at least two"
        )


def check_task(task: FetchedTask) -> None:
    """Check every split of a task; errors as ``check_split``."""
    for split, examples in task.splits.items():
        check_split(task.info.name, split, examples, task.info.labels)


def write_task(data: Data, task: FetchedTask) -> None:
    """Write a task's splits and its manifest, completely or not at all.

    Raises:
        UserError: the disk is full, or a file that was read back has other rows than were written.
    """
    facts = task.info.to_json()
    if isinstance(data.entry, OWN):
        del facts["licence"], facts["metrics"]
    with staging_folder(data.folder) as staged:
        splits = {split: _write_split(staged, split, examples, task.info) for split, examples in task.splits.items()}
        record = {**manifest_of(data), "task": facts, "splits": splits, "warnings": list(task.warnings)}
        publish(staged, data.folder, record)


def _write_split(staged: Path, split: str, examples: Examples, info: TaskInfo) -> dict[str, Any]:
    path = staged / f"{split}.parquet"
    pq.write_table(examples.table, path, row_group_size=ROW_GROUP)
    if not pq.read_table(path).equals(examples.table):
        raise UserError(f"{path.name} read back differs from what was written: check the disk and start again")
    return {
        "rows": examples.table.num_rows,
        "sha256": sha256_file(path),
        "label_shares": _label_shares(examples.table, info),
        "dropped": dict(sorted(examples.dropped.items())),
    }


def _label_shares(table: pa.Table, info: TaskInfo) -> dict[str, float]:
    labels = each_label(table)
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(labels).to_pylist()}
    if not info.labels or NO_CLASS in counts:
        return {}
    return {label: counts.get(index, 0) / len(labels) for index, label in enumerate(info.labels)}


def each_label(table: pa.Table) -> Any:
    """Return a split's labels, those of all words for tags."""
    labels = table["label"]
    return pc.list_flatten(labels) if pa.types.is_list(labels.type) else labels


def read_task(data: Data) -> TaskOnDisk:
    """Read the manifest of a fetched task.

    Raises:
        UserError: the task was not fetched, its manifest is damaged, or a metric does not suit it.
    """
    manifest = read_mapping(data.marker)
    try:
        facts = dict(manifest["task"])
        sha256 = {split: str(entry["sha256"]) for split, entry in manifest["splits"].items()}
        warnings = tuple(map(str, manifest["warnings"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{data.marker} is truncated or damaged ({error}): delete it and run again") from None
    if isinstance(data.entry, OWN):
        facts |= {"licence": data.entry.licence, "metrics": list(metrics_of(data.entry, tuple(facts["labels"])))}
    return TaskOnDisk(data.folder, TaskInfo.from_json(facts), sha256, warnings, manifest)


def metrics_of(entry: FilesEntry | ImagesEntry, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a user's own task is scored by, main metric first."""
    kind = entry.kind if isinstance(entry, FilesEntry) else "classes"
    return entry.metrics or KINDS[kind].default_metrics(labels)


def own_task(
    data: Data, labels: tuple[str, ...], splits: dict[str, Examples], *, texts: int, warnings: Sequence[str] = ()
) -> FetchedTask:
    """Return a task of a user's own; ``texts`` columns of text, 0 for images."""
    entry = data.entry
    assert isinstance(entry, FilesEntry | ImagesEntry)
    info = TaskInfo(
        name=data.name,
        title=data.name,
        kind=data.kind,
        labels=labels,
        metrics=metrics_of(entry, labels),
        texts=texts,
        rows=rows_by_split(splits),
        licence=entry.licence,
        source=f"{entry.repository}@{entry.revision}" if entry.repository else f"own {entry.source}",
    )
    if isinstance(entry, ImagesEntry):
        info = replace(info, scored_on=entry.scored_on)  # type: ignore[arg-type]
    return FetchedTask(info, splits, tuple(warnings))
