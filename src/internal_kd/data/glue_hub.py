"""GLUE from the hub: the Parquet files of ``nyu-mll/glue`` (``<config>/<split>-00000-of-00001.parquet``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from internal_kd.data.examples import Examples, FetchedTask, examples_of, rows_by_split
from internal_kd.data.hub import HubFiles, download
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Data
from internal_kd.tasks.glue import GLUE, GlueTask

if TYPE_CHECKING:
    from datasets import Dataset


def download_glue(data: Data) -> FetchedTask:
    """Download a GLUE task at its pinned revision.

    Raises:
        UserError: the hub cannot be reached, or the data set there does not have GLUE's layout.
    """
    assert data.glue is not None and data.hub is not None
    task = GLUE[data.glue]
    requested = HubFiles(
        kind="dataset",
        repository=data.hub.repository,
        revision=data.hub.revision,
        patterns=(f"{task.name}/*.parquet",),
        way_out="give the folder of GLUE's official files as data.root",
    )
    found = download(requested)
    splits = {}
    for split, hub_split in task.hub_splits.items():
        shards = [path for name, path in found.items() if name.startswith(f"{task.name}/{hub_split}-")]
        if shards:
            splits[split] = _read_split(task, split, shards)
        elif not split.startswith("test"):
            raise UserError(f"{requested} has no {task.name}/{hub_split}-*.parquet; take nyu-mll/glue or data.root")
    info = task.info(rows_by_split(splits), f"{data.hub.repository}@{data.hub.revision}")
    return FetchedTask(replace(info, name=data.name), splits)


def _read_split(task: GlueTask, split: str, shards: list[Path]) -> Examples:
    dataset, name = _open(task, shards), shards[0].name
    for column in (*task.text, "label"):
        if column not in dataset.column_names:
            raise UserError(
                f"{name} of {task.title} has no column {column!r}; it has {', '.join(dataset.column_names)}"
            )
    # A swapped pair of classes would go unseen: compare the order of their names, if the file has them.
    names = getattr(dataset.features["label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise UserError(
            f"{name} of {task.title} orders its labels {', '.join(names)} instead of {', '.join(task.labels)}"
        )
    texts = [list(dataset[column]) for column in task.text]
    labels: list[float] | None = None
    if any(text is None for column in texts for text in column):
        raise UserError(f"{name} of {task.title} has a row without text; take another revision")
    if not split.startswith("test"):
        labels = list(dataset["label"])
        _check_labels(task, labels, shards[0])
    own = "idx" in dataset.column_names and len(set(dataset["idx"])) == len(dataset)
    idx = list(dataset["idx"]) if own else list(range(len(dataset)))
    return examples_of(idx, texts, labels, kind=task.kind)


def _open(task: GlueTask, shards: list[Path]) -> Dataset:
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    # What datasets caches is of no use later: the verified Parquet under data/ is ours.
    with TemporaryDirectory() as scratch:
        try:
            opened = Dataset.from_parquet([str(path) for path in shards], cache_dir=scratch, keep_in_memory=True)
        except (DatasetGenerationError, OSError, ValueError) as error:
            raise UserError(
                f"{shards[0].name} of {task.title} cannot be read ({error}): delete it and start again"
            ) from None
    return cast("Dataset", opened)


def _check_labels(task: GlueTask, labels: list[Any], path: Path) -> None:
    low, high = task.label_range or (0, len(task.labels) - 1)
    for row, label in enumerate(labels):
        if label is None or not low <= label <= high:
            raise UserError(f"{path.name} of {task.title} row {row}: label {label} is not one of {low:g} to {high:g}")
