"""GLUE from the hub: the Parquet files of ``nyu-mll/glue`` (``<config>/<split>-00000-of-00001.parquet``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from internal_kd.data.examples import Examples, FetchedTask, examples_of, rows_by_split
from internal_kd.data.hub import HubFiles, download
from internal_kd.data.labels import stored_names
from internal_kd.data.tables import columns_of, rows_of
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Data
from internal_kd.tasks.glue import GLUE, GlueTask


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
    # A swapped pair of classes would go unseen: compare the order of their names, if the file has them.
    names = stored_names(shards[0], "label")
    if names is not None and tuple(names) != task.labels:
        raise UserError(
            f"{shards[0].name} of {task.title} orders its labels {', '.join(names)} instead of {', '.join(task.labels)}"
        )
    own = "idx" in columns_of(shards[0])
    labelled, (low, high) = not split.startswith("test"), task.label_range or (0, len(task.labels) - 1)
    idx: list[int] = []
    texts: list[tuple[str, ...]] = []
    labels: list[float] = []
    for path in shards:
        for place, (label, *values) in rows_of(path, ["label", *task.text, *(["idx"] if own else [])]):
            text = tuple(values[: len(task.text)])
            if None in text:
                raise UserError(f"{path.name} of {task.title} {place}: has no text; take another revision")
            if labelled and (label is None or not low <= label <= high):
                raise UserError(f"{path.name} of {task.title} {place}: label {label} is not one of {low:g} to {high:g}")
            idx.append(values[-1] if own else len(idx))
            texts.append(text)
            labels.append(label)
    if len(set(idx)) < len(idx):
        idx = list(range(len(idx)))
    return examples_of(idx, list(zip(*texts, strict=True)), labels if labelled else None, kind=task.kind)
