"""Finished runs of the tiny study without their training: records with the scores that a test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny_study
from internal_kd.checksums import describe_files
from internal_kd.files import read_mapping, write_json
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study
from internal_kd.tasks.info import TaskInfo

JUDGE = TaskInfo(
    "judge", "Judge", "classes", ("no", "yes"), ("matthews_correlation", "accuracy"), 1, {"train": 64, "dev": 48}
)


def plan(folder: Path, **changes: Any) -> Study:
    """Plan the tiny study in a folder, the current directory."""
    encoder = folder / "encoder"
    if not encoder.exists():
        tiny_study.make_project(folder, **changes)
    else:
        tiny_study.write_overlay(folder, **changes)
    return tiny_study.plan_here()


def finish(run: Run, score: float | None, *, weights: bool = True, **record: Any) -> None:
    """Write a run's record with a main score, and its weights."""
    tiny_study.complete(run)
    names = ["predictions.parquet", "history.jsonl"]
    if weights:
        names += tiny_study.MODEL_FILES
        for name in tiny_study.MODEL_FILES:
            (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (run.folder / name).write_text(name)
    known = {"scores": {"matthews_correlation": score, "accuracy": 0.5}, "encoder_parameters": 1000, "held_out": None}
    files = describe_files(run.folder, names)
    write_json(run.marker, {**read_mapping(run.marker), **known, **record, "files": files})


def runs_of(study: Study, method: str) -> list[Run]:
    """Return a method's runs, by seed."""
    return [run for run in study.runs if run.method.name == method]
