"""Finished runs made up for tests: planned for real, with real generated texts and predictions of a chosen quality.

Nothing is trained. An example's difficulty is common to all models, so that they err on the same examples as real ones
do; a run is right on exactly the share of examples that is asked of it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from internal_kd.checksums import describe_files
from internal_kd.data.examples import FetchedTask, examples_of, manifest_of, read_task, rows_by_split, write_task
from internal_kd.files import write_json
from internal_kd.params import load_params, merge, parse_params, read_yaml
from internal_kd.plan.artefacts import Data
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study, plan_study
from internal_kd.steps.fetch import fetch_task
from internal_kd.tasks.info import TaskInfo

ROOT = Path(__file__).resolve().parents[2]
# The share of dev examples that each row gets right unless a test says otherwise.
QUALITY = {
    "teacher": 0.93, "finetuned": 0.80, "soft": 0.82, "soft_kl": 0.84, "soft_cos": 0.83, "soft_kl_cos": 0.86,
    "progressive": 0.85, "stacked": 0.87, "stacked_soft": 0.86, "stacked_soft_hard": 0.86,
}  # fmt: skip


def plan(*, overlays: tuple[str, ...] = (), **values: Any) -> Study:
    """Plan a study: the paper's methods at 3 of 6 layers, by default on one generated task with three seeds."""
    base = read_yaml(ROOT / "params.yaml")
    for overlay in overlays:
        base = merge(base, read_yaml(ROOT / overlay))
    if not overlays:
        base = merge(
            base,
            {
                "study": {
                    "name": "made",
                    "tasks": ["rte"],
                    "methods": ["teacher", "soft", "stacked"],
                    "seeds": [1, 2, 3],
                },
                "encoder": {
                    "name": "tiny",
                    "source": "hub",
                    "id": "example/tiny",
                    "revision": "0" * 40,
                    "layers": 6,
                    "licence": "none",
                },
                "defaults": {"learner": {"layers": 3}, "epochs": 4, "epochs_per_layer": 1},
                "methods": {"teacher": {"seeds": [1]}},
            },
        )
        base["tasks"] = {"rte": {"source": "generator", "grammar": "entailment", "train": 300, "dev": 277}}
    return plan_study(parse_params(merge(base, values)))


def plan_demo() -> Study:
    """Plan the demo."""
    return plan_study(load_params(ROOT / "params.yaml", [ROOT / "config/demo.yaml"]))


def write_examples(
    data: Data,
    labels: tuple[str, ...] = (),
    rows: int = 200,
    *,
    mismatched: bool = False,
    metrics: tuple[str, ...] | None = None,
) -> None:
    """Write made-up examples of a task that is not generated; without class names a task of values."""
    rng = np.random.default_rng(7)
    splits = {"train": 300, "dev": rows} | ({"dev_mismatched": rows + 10} if mismatched else {})
    kind = "classes" if labels else "values"
    made = {}
    for split, count in splits.items():
        gold = rng.integers(len(labels), size=count) if labels else rng.uniform(0, 5, count)
        made[split] = examples_of(range(count), [[f"text {i}" for i in range(count)]], gold.tolist(), kind=kind)
    of_classes = ("accuracy", "macro_f1") if len(labels) > 2 else ("accuracy", "f1")
    metrics = metrics or (of_classes if labels else ("pearson", "mse"))
    info = TaskInfo(data.name, data.name.upper(), kind, labels, metrics, 1, rows_by_split(made), "none", "made up")
    write_task(data, FetchedTask(info, made))


def write_study(
    study: Study,
    quality: Mapping[str, float] = QUALITY,
    *,
    seed_std: float = 0.012,
    constant: Collection[tuple[str, int]] = (),
    missing: Collection[tuple[str, int]] = (),
) -> Study:
    """Write the examples and runs of a study.

    Args:
        study: planned.
        quality: shares of right answers by method, or by (method, values of the varied keys).
        seed_std: how much they vary between seeds.
        constant: (method, seed) of runs that give one answer to everything.
        missing: (method, seed) of runs that are not there.
    """
    for inputs in study.tasks.values():
        if not inputs.data.marker.is_file():
            fetch_task(inputs.data)
    for run in study.runs:
        if (run.method.name, run.seed) not in missing:
            key = (run.method.name, *run.method.point.values())
            share = quality.get(key, quality.get(run.method.name, 0.8))  # type: ignore[call-overload]
            write_run(run, share, seed_std, constant=(run.method.name, run.seed) in constant)
    return study


def write_run(run: Run, quality: float, seed_std: float = 0.012, *, constant: bool = False, **changes: Any) -> None:
    """Write a run's folder: predictions, history and, at the end, run.json."""
    run.folder.mkdir(parents=True, exist_ok=True)
    task = read_task(run.inputs.data)
    names = ["history.jsonl"]
    for split in (split for split in task.info.rows if split.startswith("dev")):
        names.append("predictions.parquet" if split == "dev" else f"predictions_{split}.parquet")
        dev = task.frame(split)[["idx", "label"]]
        logits = _logits(run, dev["label"].to_numpy(), task.info, quality, seed_std, constant=constant)
        frame = dev.assign(**{f"logit_{k}": logits[:, k].astype(np.float32) for k in range(logits.shape[1])})
        # The order of rows may not matter.
        frame.sample(frac=1, random_state=run.seed).to_parquet(run.folder / names[-1], index=False)
    history = _history(run, quality, task.info.metrics)
    (run.folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    write_json(run.marker, {**_record(run), **changes, "files": describe_files(run.folder, names)})


def _rng(run: Run, *more: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(run.method.name.encode()), run.seed, *more])


def _logits(
    run: Run, labels: np.ndarray, info: TaskInfo, quality: float, seed_std: float, *, constant: bool
) -> np.ndarray:
    rng, count = _rng(run, 1), len(labels)
    if not info.labels:
        noise = rng.normal(size=count) * (1 - quality) * 10
        return np.full((count, 1), 2.5) if constant else (labels + noise)[:, None]
    classes = len(info.labels)
    if constant:
        return np.tile(np.eye(classes)[0], (count, 1))
    difficulty = np.random.default_rng(zlib.crc32(info.name.encode())).normal(size=count)
    own = np.random.default_rng(zlib.crc32(run.method.name.encode())).normal(size=count) * 0.35
    latent = difficulty + own + rng.normal(size=count) * 0.5
    # Equal seeds deviate alike, so that rows differ by exactly their qualities.
    place = (run.seed * 7919 % 100 - 49.5) / 29 if run.seed else 0.0
    right = np.argsort(np.argsort(latent)) < round((quality + seed_std * np.clip(place, -1.5, 1.5)) * count)
    wrong = (labels + 1 + np.random.default_rng(5).integers(classes - 1, size=count)) % classes
    answers = np.where(right, labels, wrong)
    return rng.normal(size=(count, classes)) * 0.3 + 2.5 * np.eye(classes)[answers]


def _history(run: Run, quality: float, metrics: tuple[str, ...]) -> list[dict[str, Any]]:
    epochs, climbs = run.method.settings.epochs, run.method.settings.curriculum != "all"
    lines = []
    for epoch in range(1, epochs + 1):
        stage = f"layers 1-{epoch}" if climbs and epoch < epochs else "classification" if climbs else "all"
        terms = dict.fromkeys(run.method.weights, 0.8 / epoch + 0.01 * run.seed)
        score = quality * (1 - 0.5 ** (epoch + 1)) + 0.005 * run.seed
        line = {"epoch": epoch, "stage": stage, "loss": 1.5 / epoch, **terms, "learning_rate": 1e-4 / epoch}
        lines.append(
            line | {f"dev_{metric}": score for metric in metrics} | {"examples_per_second": 500.0, "seconds": 3.0}
        )
    return lines


def _record(run: Run) -> dict[str, Any]:
    depth = run.depth or 6
    return {
        **manifest_of(run), "step": run.step, "label": run.label, "task": run.task, "method": run.method.name,
        "data_sha256": {"dev": "0" * 64}, "git_commit": "a1b2c3d4" * 5, "git_dirty": False, "lock_sha256": "0" * 64,
        "versions": {"python": "3.11"}, "device": "cpu, 2 threads", "precision": "fp32", "seconds": 12.5 + depth,
        "peak_memory": 10**9, "examples_per_second": 600.0 / depth / (2 if run.method.layer_terms else 1),
        "encoder_parameters": 1_780_000 * depth,
        "total_parameters": 1_780_000 * depth + 11_900_000, "epochs": 4, "started": "2026-01-02T10:00:00+00:00",
        "finished": "2026-01-02T10:00:12+00:00", "scores": {}, "held_out": None, "majority": 0.5,
        "recorded_bytes": 8,
    }  # fmt: skip


def labels_and_predictions(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return a run's dev labels and predicted classes, read anew from its file."""
    frame = pd.read_parquet(run.folder / "predictions.parquet").sort_values("idx")
    logits = frame[[name for name in frame.columns if name.startswith("logit_")]].to_numpy()
    return frame["label"].to_numpy(), logits.argmax(1)
