"""Fetch a task's examples: from the hub, a local GLUE folder, one's own files or the built-in generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internal_kd.artefacts import TaskData
    from internal_kd.data.tasks_on_disk import FetchedTask

# Raised when the same parameters and inputs give another result.
RECIPE = 1


def fetch_task(data: TaskData) -> None:
    """Write ``data/tasks/<task>-<fp>/``: one verified Parquet file per split and a manifest.

    Raises:
        UserError: the source cannot be reached or read, or holds what nothing can be learnt from.
    """
    from internal_kd.data.tasks_on_disk import check_task, write_task

    task = _read_source(data)
    check_task(data.name, task)
    write_task(data, task)


def _read_source(data: TaskData) -> FetchedTask:
    from internal_kd.data.generated import generate_task
    from internal_kd.data.glue_files import read_glue_folder
    from internal_kd.data.glue_hub import download_glue
    from internal_kd.data.own_files import read_own_files
    from internal_kd.sources import check_at_hand

    check_at_hand(f"tasks.{data.name}", data.files)
    if data.entry.source == "generator":
        return generate_task(data.entry)
    if data.entry.source == "files":
        return read_own_files(data)
    return read_glue_folder(data) if data.hub is None else download_glue(data)
