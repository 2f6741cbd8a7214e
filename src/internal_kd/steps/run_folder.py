"""A run's folder: what is scored, what is recorded about the job, and the files that make the run complete."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from internal_kd.checksums import publish, sha256_file
from internal_kd.data.examples import manifest_of
from internal_kd.data.inputs import EncodedTask
from internal_kd.distillation.batches import Examples, labels_of, rows_of
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.history import Clock
from internal_kd.distillation.loop import TrainingResult
from internal_kd.distillation.predicting import predict_logits
from internal_kd.files import read_mapping, remove, staging_folder, write_json, write_text
from internal_kd.learners.learner import Network
from internal_kd.learners.pair import PEER_PREDICTIONS
from internal_kd.plan.identity import WORK
from internal_kd.plan.runs import Run
from internal_kd.steps.scores import TrainingPredictions
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import score
from internal_kd.tasks.tags import sentence_and_word

Scores = dict[str, float | None]
Predicted: TypeAlias = "tuple[np.ndarray, np.ndarray, np.ndarray]"  # ids, labels and logits


class DevSet:
    """Scores a network on a task's dev set and writes its predictions."""

    def __init__(self, network: Network, data: EncodedTask, info: TaskInfo, hardware: Hardware) -> None:
        """Keep what scoring needs; ``network`` may still be training."""
        self._network, self._data, self.info, self._hardware = network, data, info, hardware
        self._last: Predicted | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The task's metrics, the main one first."""
        return self.info.metrics

    def scores(self) -> Scores:
        """Return the present dev scores by metric, in natural units; None where a correlation is not defined.

        Of a pair also ``agreement``, the share of the rows that both answer alike.
        """
        dev, kind, peer = self._data.split("dev"), KINDS[self.info.kind], self.of_peer()
        rows, labels, logits = self._last = self._predicted(dev)
        scores = self._scores_of(logits, labels, rows)
        if peer and self.info.labels:
            same = kind.predicted(logits) == kind.predicted(peer._predicted(dev)[2])
            scores["agreement"] = float(same.mean())
        return scores

    def of_peer(self) -> DevSet | None:
        """Return the same for the second network of a pair."""
        peer = self._network.peer
        return DevSet(peer, self._data, self.info, self._hardware) if peer else None

    def write_held_out(self, folder: Path, examples: Examples, positions: np.ndarray) -> Scores:
        """Write predictions_held_out.parquet, of the examples at some positions; return the scores on them."""
        rows, labels, logits = self._predicted(examples, positions)
        _predictions(rows, labels, logits, self.info).to_parquet(folder / "predictions_held_out.parquet", index=False)
        return self._scores_of(logits, labels, rows)

    def _predicted(self, examples: Examples, positions: np.ndarray | None = None) -> Predicted:
        """Return ids, labels and logits of the rows of some examples, or of all."""
        chosen = np.arange(len(examples)) if positions is None else positions
        logits = predict_logits(self._network, examples, self._hardware, positions=chosen)
        return rows_of(examples, chosen), labels_of(examples, chosen), logits

    def _scores_of(self, logits: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Scores:
        kind = KINDS[self.info.kind]
        labels, predicted = kind.by_example(rows, labels), kind.by_example(rows, kind.predicted(logits))
        found = {metric: score(labels, predicted, metric, self.info.outputs) for metric in self.metrics}
        return {metric: value if math.isfinite(value) else None for metric, value in found.items()}

    def majority(self) -> float:
        """Return the main metric of always predicting the most frequent class, or the mean, of the training set.

        0 for a correlation, which constant predictions leave undefined.
        """
        train, dev = self._data.split("train"), self._data.split("dev")
        known = train.labels[~np.isnan(train.labels)] if self.info.kind == "values" else train.labels[train.labels >= 0]
        if self.info.kind == "values":
            constant = float(known.mean())
        else:
            constant = int(np.bincount(known).argmax())
        everything = np.arange(len(dev))
        labels = KINDS[self.info.kind].by_example(rows_of(dev, everything), labels_of(dev, everything))
        value = score(labels, np.full_like(labels, constant), self.metrics[0], self.info.outputs)
        return value if math.isfinite(value) else 0.0

    def write(self, folder: Path, name: str = "predictions", *, trained_on: bool = True) -> Scores:
        """Write predictions.parquet, and one more file for a second dev set (MNLI); return the scores on the first.

        Unless the network was ``trained_on`` since it was scored last, those predictions are the ones that are written.
        """
        scores: Scores = {}
        for split in (split for split in self._data.splits if split.startswith("dev")):
            known = self._last if split == "dev" and not trained_on else None
            rows, labels, logits = known or self._predicted(self._data.split(split))
            file = folder / f"{name}{'' if split == 'dev' else f'_{split}'}.parquet"
            _predictions(rows, labels, logits, self.info).to_parquet(file, index=False)
            if split == "dev":
                scores = self._scores_of(logits, labels, rows)
        return scores


class JobRecord:
    """What is recorded when a job starts - the time, the code it runs - and the progress it reports from then on.

    Attributes:
        clock: the time of the training, earlier attempts included once a checkpoint was read.
        provenance: recorded at the start, so that later edits are not credited with this model.
        recorded_bytes: what the disk keeps of the teachers' answers for one example of this run.
    """

    def __init__(self, run: Run) -> None:
        """Start."""
        self.clock, self.provenance = Clock(), provenance()
        self.recorded_bytes = 0
        self._run = run
        self._progress = WORK / "progress" / f"{run.fingerprint}.json"
        self._epochs = WORK / "progress" / f"{run.fingerprint}.jsonl"

    def report(self, progress: dict[str, Any]) -> None:
        """Write how far the run has come, for ``internal-kd status``."""
        times = {"started": self.clock.started.isoformat(), "updated": datetime.now(UTC).isoformat()}
        who = {"fingerprint": self._run.fingerprint, "label": self._run.label}
        write_json(self._progress, {**who, **progress, **times})

    def epoch(self, history: Sequence[dict[str, Any]]) -> None:
        """Write the epochs so far, for ``internal-kd status`` and MLflow."""
        write_text(self._epochs, _lines(history))

    def finish(self) -> None:
        """Remove the progress."""
        remove(self._progress)
        remove(self._epochs)


def write_run(
    run: Run,
    network: Network,
    dev: DevSet,
    hardware: Hardware,
    result: TrainingResult | None,
    job: JobRecord,
    *,
    keep_model: bool,
    held_out: tuple[Examples, np.ndarray] | None = None,
    predictions: TrainingPredictions | None = None,
) -> None:
    """Write model, predictions, history and, last, run.json into the run's folder.

    ``result`` is None for a model that was trained elsewhere; ``held_out`` are the examples that were kept aside;
    ``predictions`` are those of a scout on the training set.
    """
    with staging_folder(run.folder) as staged:
        if keep_model:
            network.save(staged / "model")
        history = result.history if result else []
        scored = any(history[-1].get(f"dev_{metric}") is not None for metric in dev.metrics) if history else False
        scores, peer = dev.write(staged, trained_on=not scored), dev.of_peer()
        write_text(staged / "history.jsonl", _lines(history))
        if predictions is not None:
            predictions.write(staged, len(history))
        encoder_parameters, total_parameters = network.count_parameters()
        aside = held_out is not None and len(held_out[1]) > 0
        record = {
            **manifest_of(run),
            "step": run.step,
            "label": run.label,
            "task": run.task,
            "method": run.method.name,
            "data_sha256": {
                name: file["sha256"] for name, file in read_mapping(run.inputs.data.marker)["files"].items()
            },
            **job.provenance,
            "device": hardware.name,
            "precision": hardware.precision,
            "seconds": job.clock.seconds,
            "peak_memory": hardware.peak_memory(),
            "examples_per_second": result.examples_per_second if result else None,
            "encoder_parameters": encoder_parameters,
            "total_parameters": total_parameters,
            "epochs": len(history),
            "micro_batch_size": result.micro_batch_size if result else None,
            "accumulation": result.accumulation if result else None,
            "started": job.clock.started.isoformat(),
            "finished": datetime.now(UTC).isoformat(),
            "scores": scores,
            **({"subset": list(network.subset)} if network.subset else {}),
            **({"peer_scores": peer.write(staged, PEER_PREDICTIONS)} if peer else {}),
            "held_out": dev.write_held_out(staged, *held_out) if aside and held_out else None,
            "majority": dev.majority(),
            "recorded_bytes": job.recorded_bytes,
        }
        publish(staged, run.folder, record, run.marker.name)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    job.finish()


def _predictions(rows: np.ndarray, labels: np.ndarray, logits: np.ndarray, info: TaskInfo) -> pd.DataFrame:
    """Return a table with idx, label, logit_0, ..., one row for each example; for tags one for each word, ``token``."""
    columns = {"idx": rows, "label": labels}
    if KINDS[info.kind].row == "token":
        sentence, word = sentence_and_word(rows)
        columns = {"idx": sentence, "token": word, "label": labels}
    found = pd.DataFrame(columns | {f"logit_{number}": logits[:, number] for number in range(logits.shape[1])})
    return found.sort_values(["idx", "token"], ignore_index=True) if "token" in columns else found


def _lines(history: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(epoch, ensure_ascii=False, allow_nan=False) + "\n" for epoch in history)


def provenance() -> dict[str, Any]:
    """Return git commit and dirty flag, the lock's SHA-256 and the versions that matter; None for what is not known."""
    lock = Path("requirements.lock")
    packages = ("torch", "transformers", "internal-kd")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changed is None else bool(changed),
        "lock_sha256": sha256_file(lock) if lock.exists() else None,
        "versions": versions,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
