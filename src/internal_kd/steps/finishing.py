"""What every training does at its end: score the dev set, write the run's folder, say where it came from."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.artefacts import Run
from internal_kd.distillation.clock import Clock
from internal_kd.files import describe_files, publish_folder, read_json, remove, sha256_file, staging_folder, write_json
from internal_kd.identity import WORK, plain
from internal_kd.processes import start_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.hardware import Hardware
    from internal_kd.distillation.trainer import TrainingResult


class DevSet:
    """Scores a model on a task's dev set and writes its predictions."""

    def __init__(self, model: PreTrainedModel, tokens: TokenStore, hardware: Hardware) -> None:
        """Keep what scoring needs; ``model`` may still be training."""
        self._model, self._tokens, self._hardware = model, tokens, hardware

    @property
    def metrics(self) -> tuple[str, ...]:
        """The task's metrics, the main one first."""
        return tuple(self._tokens.metrics)

    def scores(self) -> dict[str, float | None]:
        """Return the present dev scores by metric, in natural units; None where a correlation is not defined."""
        from internal_kd.metrics import score_predictions

        found = score_predictions(self._predictions("dev"), self.metrics, self._tokens.regression)
        return {metric: value if math.isfinite(value) else None for metric, value in found.items()}

    def write(self, folder: Path) -> None:
        """Write predictions.parquet, and one more file for a second dev set (MNLI)."""
        for split in self._tokens.splits:
            if split.startswith("dev"):
                suffix = "" if split == "dev" else f"_{split}"
                self._predictions(split).to_parquet(folder / f"predictions{suffix}.parquet", index=False)

    def _predictions(self, split: str) -> Any:
        from internal_kd.distillation.predicting import predict_logits, predictions_frame

        examples = self._tokens.split(split)
        return predictions_frame(examples, predict_logits(self._model, examples, self._hardware))


class Stopwatch:
    """What is taken down when a job starts - the time, the code it runs - and the progress it reports from then on.

    Attributes:
        clock: the time of the training, which counts earlier attempts too once a checkpoint was read.
        provenance: of this job, as it started: files that somebody changes meanwhile did not train the model.
    """

    def __init__(self, run: Run) -> None:
        """Start."""
        self.clock, self.provenance = Clock(), provenance()
        self._started = self.clock.started
        self._run = run
        self._file = WORK / "progress" / f"{run.fingerprint}.json"

    def report(self, progress: dict[str, Any]) -> None:
        """Write how far the run has come, for ``internal-kd status``."""
        now = datetime.now(UTC)
        who = {"pid": os.getpid(), "process": start_of(os.getpid()), "host": socket.gethostname()}
        times = {"started": self._started.isoformat(), "updated": now.isoformat()}
        write_json(
            self._file, {"fingerprint": self._run.fingerprint, "label": self._run.label, **progress, **times, **who}
        )

    def finish(self) -> None:
        """Take the progress file away."""
        remove(self._file)


def write_run(
    run: Run,
    model: PreTrainedModel,
    tokens: TokenStore,
    hardware: Hardware,
    result: TrainingResult,
    watch: Stopwatch,
    *,
    keep_model: bool,
) -> None:
    """Write model, predictions, history and, last, run.json into the run's folder."""
    from internal_kd.models.classifiers import count_parameters, save_classifier

    dev = DevSet(model, tokens, hardware)
    with staging_folder(run.folder) as staged:
        if keep_model:
            save_classifier(model, staged / "model")
        dev.write(staged)
        lines = [json.dumps(epoch, ensure_ascii=False, allow_nan=False) for epoch in result.history]
        (staged / "history.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        written = [str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()]
        encoder_parameters, total_parameters = count_parameters(model)
        record = {
            "fingerprint": run.fingerprint,
            "step": run.step,
            "recipe": run.recipe,
            "label": run.label,
            "task": run.task,
            "params": plain(run.params()),
            "inputs": run.inputs(),
            "data_sha256": {
                name: split["sha256"] for name, split in read_json(run.tokens.data.marker)["splits"].items()
            },
            **watch.provenance,
            "device": hardware.name,
            "precision": hardware.precision,
            "seconds": watch.clock.seconds,
            "peak_memory": hardware.peak_memory(),
            "examples_per_second": result.examples_per_second,
            "encoder_parameters": encoder_parameters,
            "total_parameters": total_parameters,
            "epochs": len(result.history),
            "micro_batch_size": result.micro_batch_size,
            "accumulation": result.accumulation,
            "started": watch.clock.started.isoformat(),
            "finished": datetime.now(UTC).isoformat(),
            "scores": dev.scores(),
            "files": describe_files(staged, written),
        }
        write_json(staged / run.marker.name, record)
        publish_folder(staged, run.folder, run.marker.name)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    watch.finish()


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
