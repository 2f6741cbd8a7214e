"""Studies without training: planned for real, with synthetic predictions, histories and records on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from internal_kd.artefacts import Run, StudentRun, TaskData
from internal_kd.data import tasks_on_disk
from internal_kd.data.tasks_on_disk import FetchedTask, examples_of
from internal_kd.files import describe_files, write_json
from internal_kd.identity import plain
from internal_kd.params import merge, parse_params
from internal_kd.study import Study, plan_study

ROOT = Path(__file__).resolve().parents[2]
DEV_ROWS = 200
TITLES = {"acceptability": "Acceptability", "entailment": "Entailment"}
KINDS: dict[str, dict[str, Any]] = {
    "acceptability": {"labels": ["unacceptable", "acceptable"], "metrics": ["matthews_correlation", "accuracy"]},
    "entailment": {"labels": ["entailment", "not_entailment"], "metrics": ["accuracy", "f1"]},
    "similarity": {"labels": [], "metrics": ["pearson", "spearman", "mse"], "regression": True},
    "nli": {"labels": ["yes", "maybe", "no"], "metrics": ["accuracy", "macro_f1"], "mismatched": True},
}
METHODS = {
    "finetuned": {"id": "2.0", "title": "Fine-tuned without a teacher", "weights": {"hard": 1}},
    "soft": {"id": "3.0", "title": "Soft labels (standard KD)", "weights": {"soft": 1}},
    "soft_kl_cos": {
        "id": "3.3",
        "title": "+ KL + cosine, all layers",
        "weights": {"soft": 1, "attention_kl": 1, "cls_cosine": 1},
    },
    "stacked": {
        "id": "3.5",
        "title": "Stacked (SID)",
        "weights": {"soft": 1, "attention_kl": 1, "cls_cosine": 1},
        "curriculum": "stacked",
    },
}
SMALL = {"study": {"tasks": ["entailment"], "methods": ["soft", "stacked"], "seeds": [1, 2]}, "teacher": {"seeds": [1]}}
# Share of examples a method gets right, for the synthetic predictions.
QUALITY = {"teacher": 0.92, "finetuned": 0.75, "soft": 0.8, "soft_kl_cos": 0.86, "stacked": 0.88}


def plan(**overlay: Any) -> Study:
    """Plan a small study: two generated tasks, four methods, depth 3 of 6, three seeds."""
    grammars = {name: {"source": "generator", "grammar": name, "train": 400, "dev": DEV_ROWS} for name in TITLES}
    values = {
        "study": {"name": "small", "methods": list(METHODS), "depths": [3], "seeds": [1, 2, 3]},
        "tasks": grammars,
        "encoder": {"name": "tiny", "source": "hub", "id": "example/tiny", "revision": "0" * 40, "layers": 6},
        "teacher": {"epochs": 2, "seeds": [1, 2], "teaching_seed": 1},
        "student": {"epochs": 6, "epochs_per_layer": 1, "cosine_threshold": 0.05},
        "methods": METHODS,
    }
    return plan_study(parse_params(merge(values, overlay)))


def write_task(data: TaskData, kind: str | None = None, rows: int = DEV_ROWS) -> None:
    """Write a task's dev examples (no text is needed to score) and its manifest."""
    facts = KINDS[kind or data.name]
    regression = facts.get("regression", False)
    rng = np.random.default_rng(7)
    splits = {"train": 400, "dev": rows} | ({"dev_mismatched": rows + 10} if facts.get("mismatched") else {})
    fetched = {}
    for split, count in splits.items():
        labels = rng.uniform(0, 5, count) if regression else rng.integers(len(facts["labels"]), size=count)
        idx = list(range(1000, 1000 + count))
        fetched[split] = examples_of(idx, [["x"] * count], labels.tolist(), regression=regression)
    title = TITLES.get(data.name, data.name)
    labels, metrics = tuple(facts["labels"]), tuple(facts["metrics"])
    tasks_on_disk.write_task(data, FetchedTask(title, "synthetic", "none", labels, metrics, regression, fetched))


def method_of(run: Run) -> str:
    """Return a run's method, ``teacher`` for a teacher."""
    return run.method.name if isinstance(run, StudentRun) else "teacher"


def make_predictions(run: Run, split: str = "dev", *, constant: bool = False) -> pd.DataFrame:
    """Return synthetic predictions as good as the method's QUALITY, different for every seed."""
    data = run.tokens.data
    manifest = json.loads(data.marker.read_text())
    dev = pd.read_parquet(data.folder / f"{split}.parquet", columns=["idx", "label"])
    rng = np.random.default_rng([run.seed, len(method_of(run)), *data.fingerprint.encode()])
    quality = QUALITY[method_of(run)] + 0.01 * rng.normal()
    if isinstance(run, StudentRun) and run.examples != "full":
        quality -= 0.1
    if manifest["regression"]:
        noise = rng.normal(size=len(dev)) * (1 - quality) * 10
        logits = np.full((len(dev), 1), 2.5) if constant else (dev["label"].to_numpy() + noise)[:, None]
    else:
        classes = manifest["classes"]
        right = rng.random(len(dev)) < quality
        chosen = np.where(right, dev["label"], (dev["label"] + rng.integers(1, classes, len(dev))) % classes)
        chosen = np.zeros(len(dev), int) if constant else chosen
        logits = rng.normal(size=(len(dev), classes)) * 0.1 + 4 * np.eye(classes)[chosen]
    frame = dev.assign(**{f"logit_{k}": logits[:, k].astype(np.float32) for k in range(logits.shape[1])})
    return frame.sample(frac=1, random_state=run.seed)  # the order of rows may not matter


def make_history(run: Run) -> list[dict[str, Any]]:
    """Return a history as a training writes it, with stages for a curriculum."""
    manifest = json.loads(run.tokens.data.marker.read_text())
    epochs = run.method.settings.epochs if isinstance(run, StudentRun) else 2
    climbs = isinstance(run, StudentRun) and run.method.curriculum != "all"
    lines = []
    for epoch in range(1, epochs + 1):
        depth = run.depth if isinstance(run, StudentRun) else 0
        stage = "all"
        if climbs:
            stage = f"layers 1-{epoch}" if epoch <= depth else "classification"
        line: dict[str, Any] = {"epoch": epoch, "stage": stage, "loss": 1.5 / epoch}
        if isinstance(run, StudentRun):
            for term in run.method.weights:
                internal = term in ("attention_kl", "cls_cosine")
                if internal != (climbs and stage == "classification") and (
                    internal or stage in ("all", "classification")
                ):
                    line[term] = 0.8 / epoch + 0.01 * run.seed
        score = QUALITY[method_of(run)] * (1 - 0.5 ** (epoch + 1)) + 0.005 * run.seed
        counts = not climbs or stage == "classification"
        line |= {f"dev_{metric}": score if counts else None for metric in manifest["metrics"]}
        line |= {"learning_rate": 1e-4 / epoch, "examples_per_second": 500.0, "padded_per_real": 1.2, "seconds": 3.0}
        lines.append(line)
    return lines


def write_run(run: Run, *, constant: bool = False) -> None:
    """Write a run's folder: predictions, history, and run.json at the end."""
    run.folder.mkdir(parents=True, exist_ok=True)
    splits = json.loads(run.tokens.data.marker.read_text())["splits"]
    names = ["history.jsonl"]
    for split in ("dev", "dev_mismatched"):
        if split in splits:
            names.append("predictions.parquet" if split == "dev" else f"predictions_{split}.parquet")
            make_predictions(run, split, constant=constant).to_parquet(run.folder / names[-1], index=False)
    history = "".join(json.dumps(line) + "\n" for line in make_history(run))
    (run.folder / "history.jsonl").write_text(history)
    write_record(run, names)


def write_record(run: Run, names: list[str], **changes: Any) -> None:
    """Write run.json as it stands for the files that are there."""
    depth = run.depth if isinstance(run, StudentRun) else 6
    record = {
        "fingerprint": run.fingerprint, "recipe": run.recipe, "step": run.step, "label": run.label, "task": run.task,
        "params": plain(run.params()), "inputs": run.inputs(), "data_sha256": "0" * 64, "git_commit": "a" * 40,
        "git_dirty": False, "lock_sha256": "0" * 64, "versions": {"python": "3.11"}, "device": "cpu",
        "precision": "fp32", "seconds": 12.5, "peak_memory": 10**9, "examples_per_second": 321.0,
        "encoder_parameters": 1_000_000 * depth, "total_parameters": 1_000_000 * depth + 12_000_000, "epochs": 6,
        "micro_batch_size": 32, "accumulation": 1, "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:00:12Z", "scores": {}, "files": describe_files(run.folder, names),
    }  # fmt: skip
    write_json(run.marker, record | changes)


def write_study(study: Study) -> Study:
    """Write every task and every run of a study."""
    for tokens in study.tasks.values():
        write_task(tokens.data)
    for run in study.runs:
        write_run(run)
    return study
