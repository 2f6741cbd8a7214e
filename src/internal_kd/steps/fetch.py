"""Fetch a task's examples and the pre-trained encoder, from wherever they come, into verified files of the project."""

from __future__ import annotations

import shutil
from dataclasses import replace

from internal_kd.checksums import check_unchanged, publish
from internal_kd.data.encoder_files import check_encoder, find_encoder
from internal_kd.data.examples import (
    FetchedTask,
    check_task,
    each_label,
    manifest_of,
    more_texts,
    next_id,
    text_columns,
    with_unlabelled,
    write_task,
)
from internal_kd.data.generated import generate_task
from internal_kd.data.glue_files import read_glue_folder
from internal_kd.data.glue_hub import download_glue
from internal_kd.data.images import fetch_images
from internal_kd.data.labels import constant_warning
from internal_kd.data.overlaps import overlap_warnings
from internal_kd.data.own_files import fetch_own_files, read_texts
from internal_kd.data.own_tags import fetch_own_tags, read_untagged
from internal_kd.files import staging_folder
from internal_kd.params.data import FilesEntry
from internal_kd.plan.artefacts import Data, Encoder
from internal_kd.plan.sources import check_available


def fetch_task(data: Data) -> None:
    """Write ``data/tasks/<task>-<fp>/``: one verified Parquet file per split and a manifest.

    What is suspicious about the examples is recorded, one line each.

    Raises:
        UserError: the source cannot be reached or read, changed since the study was planned, or has nothing to learn.
    """
    task = _read_source(data)
    if path := data.files.get("unlabelled"):
        if isinstance(data.entry, FilesEntry) and data.kind == "tags":
            more = read_untagged(path, data.entry.text[0], next_id(task))
        else:
            more = more_texts(task, read_texts(path, text_columns(data, task.info.texts)))
        task = with_unlabelled(task, more)
    check_task(task)
    task = replace(task, warnings=(*task.warnings, *_constant(task), *_overlaps(task)))
    write_task(data, task)


def fetch_encoder(encoder: Encoder) -> None:
    """Write ``data/encoders/<name>-<fp>/``: configuration, tokenizer, safetensors weights and a manifest.

    Raises:
        UserError: the source cannot be reached, has no such file, another checksum or number of layers than stated, or
            is of a kind that is not supported or cannot be built.
    """
    if encoder.path is not None:
        check_available("encoder", {name: encoder.path / name for name in encoder.content})
    found = find_encoder(encoder)
    with staging_folder(encoder.folder) as staged:
        for name, path in found.items():
            shutil.copyfile(path, staged / name)
        facts = check_encoder(encoder, staged)
        publish(staged, encoder.folder, {**manifest_of(encoder), **facts})


def _read_source(data: Data) -> FetchedTask:
    check_available(f"tasks.{data.name}", data.files)
    for split, path in data.files.items():
        check_unchanged(path, data.content[split])
    if data.entry.source == "generator":
        return generate_task(data.name, data.entry)
    if data.entry.source == "files":
        return fetch_own_tags(data) if data.kind == "tags" else fetch_own_files(data)
    if data.entry.source == "images":
        return fetch_images(data)
    return read_glue_folder(data) if data.hub is None else download_glue(data)


def _constant(task: FetchedTask) -> list[str]:
    dev = {name: each_label(split.table).to_pylist() for name, split in task.splits.items() if name.startswith("dev")}
    return [
        line
        for name, labels in dev.items()
        for line in constant_warning(name, labels, task.info.metrics, task.info.labels)
    ]


def _overlaps(task: FetchedTask) -> list[str]:
    splits = {}
    for name, examples in task.splits.items():
        if not task.info.texts:  # of images, a twin says little: many are blank but for a few pixels
            return []
        texts = [examples.table[column].to_pylist() for column in ("text_a", "text_b")[: task.info.texts]]
        labels = examples.table["label"].to_pylist()
        splits[name] = (zip(*texts, strict=True), map(tuple, labels) if task.info.kind == "tags" else labels)
    return overlap_warnings(splits)
