"""GLUE from the hub: the Parquet files of ``nyu-mll/glue`` (``<config>/<split>-00000-of-00001.parquet``)."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from internal_kd.artefacts import TaskData
from internal_kd.data.hub import Wanted, download
from internal_kd.data.tasks_on_disk import UNLABELLED, Examples, FetchedTask, examples_of
from internal_kd.errors import UserError
from internal_kd.tasks import GLUE, GlueTask


def download_glue(data: TaskData) -> FetchedTask:
    """Download a GLUE task at its pinned revision.

    Raises:
        UserError: the hub cannot be reached, or the data set there is not laid out as GLUE is.
    """
    assert data.glue is not None and data.hub is not None
    task = GLUE[data.glue]
    wanted = Wanted(
        kind="dataset",
        repository=data.hub.repository,
        revision=data.hub.revision,
        patterns=(f"{task.hub_config}/*.parquet",),
        way_out="give the folder of GLUE's official files as data.root",
    )
    found = download(wanted)
    splits = {}
    for split, hub_split in task.hub_splits.items():
        shards = [path for name, path in found.items() if name.startswith(f"{task.hub_config}/{hub_split}-")]
        if shards:
            splits[split] = _read_split(task, split, shards)
        elif not split.startswith("test"):
            raise UserError(f"{wanted} has no {task.hub_config}/{hub_split}-*.parquet; take nyu-mll/glue or data.root")
    return FetchedTask(
        title=task.title,
        source=f"{data.hub.repository}@{data.hub.revision}",
        licence=task.licence,
        labels=task.labels,
        metrics=task.metrics,
        regression=task.regression,
        splits=splits,
    )


def _read_split(task: GlueTask, split: str, shards: list[Path]) -> Examples:
    try:
        table = pa.concat_tables([pq.read_table(path) for path in shards])
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{shards[0].name} of {task.title} cannot be read ({error}): delete it and start again"
        ) from None
    for column in (*task.text, "label"):
        if column not in table.column_names:
            raise UserError(
                f"{shards[0].name} of {task.title} has no column {column!r}; it has {', '.join(table.column_names)}"
            )
    _check_label_names(task, table, shards[0])
    texts = [table[column].to_pylist() for column in task.text]
    labels = table["label"].to_pylist()
    if any(text is None for column in texts for text in column):
        raise UserError(f"{shards[0].name} of {task.title} has a row without text; take another revision")
    if not split.startswith("test"):
        _check_labels(task, labels, shards[0])
    else:
        labels = [UNLABELLED] * len(labels)
    own = "idx" in table.column_names and pc.count_distinct(table["idx"]).as_py() == table.num_rows
    idx = table["idx"].to_pylist() if own else range(table.num_rows)
    return examples_of(list(idx), texts, labels, regression=task.regression)


def _check_label_names(task: GlueTask, table: pa.Table, path: Path) -> None:
    """Compare the order of the class names, where the file carries it, with ours: a swapped pair would go unseen."""
    raw = (table.schema.metadata or {}).get(b"huggingface")
    if raw is None or task.regression:
        return
    feature = json.loads(raw).get("info", {}).get("features", {}).get("label", {})
    names = feature.get("names")
    if names is not None and tuple(names) != task.labels:
        raise UserError(
            f"{path.name} of {task.title} orders its labels {', '.join(names)} instead of {', '.join(task.labels)}"
        )


def _check_labels(task: GlueTask, labels: list[float | None], path: Path) -> None:
    low, high = task.label_range or (0, len(task.labels) - 1)
    for row, label in enumerate(labels):
        if label is None or not low <= label <= high:
            raise UserError(f"{path.name} of {task.title} row {row}: label {label} is none of {low:g} to {high:g}")
