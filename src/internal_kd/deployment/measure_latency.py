"""How long a forward pass of each depth of a study takes on this machine: torch, fp32, one thread.

Weights do not matter to the clock, so models are drawn at random from the encoder's configuration: nothing needs to
have been kept, and every depth of a study is measured in the same minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from internal_kd.analysis.built import built_from_path
from internal_kd.analysis.cells import teacher_layers
from internal_kd.analysis.latency import BATCH, ONE, LatencyRow, write_latencies
from internal_kd.deployment.splits import open_split
from internal_kd.deployment.timing import Timing, machine_name, one_thread, take_turns, versions_of
from internal_kd.files import read_json, remove, sha256_text, write_json
from internal_kd.identity import WORK
from internal_kd.models.classifiers import seeded
from internal_kd.models.families import family_of
from internal_kd.records import is_complete
from internal_kd.study import Study

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Raised when the same study on the same machine would be measured otherwise.
RECIPE = 1
REMEMBERED = WORK / "latency"
# For each task and batch size; at least 5 rounds are made, whatever they take.
SECONDS = 0.3


def measure_latency(study: Study, *, again: bool = False) -> Path:
    """Write ``results/<study>/tables/latency.csv``; returns its path.

    Measured are the teacher's number of layers and every student depth, for one example and for 32, at the median
    length of each task's dev examples, in interleaved rounds. What this machine has measured already is taken from
    ``work/latency`` unless ``again``. A task whose data is not here, or a study whose encoder is not, has no rows.
    The scores' record is taken away: the tables beside it no longer tell the same.
    """
    remove(built_from_path(study))
    config = _config_folder(study)
    layers = teacher_layers(study)
    if config is None or layers is None:
        return write_latencies(study, [])
    # The teacher first: speed-ups are against it.
    depths = [layers, *sorted({*study.params.study.depths} - {layers}, reverse=True)]
    lengths = median_lengths(study)
    machine, versions = machine_name(), versions_of("torch", "transformers")
    what = (
        f"{RECIPE} {(config / 'config.json').read_text()} {depths} {sorted(set(lengths.values()))} {machine} {versions}"
    )
    memory = REMEMBERED / f"{sha256_text(what)[:12]}.json"
    if again or not memory.is_file():
        measured = _measure({depth: random_classifier(config, depth) for depth in depths}, set(lengths.values()))
        write_json(memory, [{"tokens": n, "layers": d, "batch": b, **asdict(t)} for n, d, b, t in measured])
    common: dict[str, Any] = {"threads": 1, "precision": "fp32", "machine": machine, "versions": versions}
    found = read_json(memory)
    rows = [
        LatencyRow(task=task, **line, **common) for task, n in lengths.items() for line in found if line["tokens"] == n
    ]
    return write_latencies(study, rows)


def random_classifier(folder: Path, depth: int) -> PreTrainedModel:
    """Return a model of so many layers with the folder's configuration and random weights, in fp32 and eval mode."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    family_of(config.model_type)
    config.num_hidden_layers = depth
    with seeded(0):
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()


def median_lengths(study: Study) -> dict[str, int]:
    """Return the median number of tokens of each task's dev examples; tasks that cannot be read are left out."""
    lengths = {}
    for name, tokens in study.tasks.items():
        if is_complete(tokens) or (is_complete(tokens.data) and is_complete(tokens.encoder)):
            with open_split(tokens, "dev") as split:
                lengths[name] = int(np.median(split.lengths))
    return lengths


def _measure(models: dict[int, PreTrainedModel], lengths: set[int]) -> list[tuple[int, int, int, Timing]]:
    measured = []
    vocabulary = min(model.config.vocab_size for model in models.values())
    with one_thread():
        for tokens in sorted(lengths):
            for batch in (ONE, BATCH):
                ids = torch.randint(vocabulary, (batch, tokens), generator=torch.Generator().manual_seed(tokens))
                timings = take_turns([_forward(model, ids) for model in models.values()], seconds=SECONDS)
                measured += [(tokens, depth, batch, t) for depth, t in zip(models, timings, strict=True)]
    return measured


def _forward(model: PreTrainedModel, ids: torch.Tensor) -> Callable[[int], object]:
    mask = torch.ones_like(ids)
    return lambda number: model(input_ids=ids, attention_mask=mask)


def _config_folder(study: Study) -> Path | None:
    """Where the encoder's configuration lies: its own folder, or that of any run's model."""
    encoder = next(iter(study.tasks.values())).encoder
    folders = [encoder.folder, *(run.folder / "model" for run in study.runs)]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)
