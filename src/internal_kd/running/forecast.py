"""How long the runs of a study take, by the finished ones like them, and what they write and download.

The work of a training is counted in layers times tokens: examples x tokens x layers that its stages compute, three
times over for a step (forward and twice that backward), once for scoring. Its ratio to the work of a finished run turns
that run's seconds into an estimate; the more alike the two, the less the ratio matters.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internal_kd.distillation.curricula import epochs_of, stages_of
from internal_kd.distillation.declarations import KINDS
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.learner import Shape
from internal_kd.params.method import SelectParams
from internal_kd.plan.artefacts import Artefact, Data, Encoder, Inputs
from internal_kd.plan.known import known_rows
from internal_kd.plan.runs import Answers, Run
from internal_kd.plan.sources import config_of, shape_of
from internal_kd.plan.study import Study
from internal_kd.running.make import keeps_model

FORWARD, STEP = 1, 3
BYTES_PER_WEIGHT = 4  # fp32
BYTES_PER_RECORDED = 2  # fp16; logits are fp32, and few
SPREAD = 1.2
# Examples are taken to fill this share of max_length until they are encoded.
ASSUMED_FILLING = 0.5
# The depth of an encoder that nobody has seen yet.
ASSUMED_LAYERS = 12


@dataclass(frozen=True)
class Measured:
    """What a finished run records of its time: seconds, on which device, and when it ended (ISO 8601)."""

    seconds: float
    device: str
    finished: str


def read_measured(record: Mapping[str, Any]) -> Measured | None:
    """Return the times of a ``run.json``, None if it has none."""
    seconds = record.get("seconds")
    if not isinstance(seconds, int | float) or seconds <= 0:
        return None
    return Measured(float(seconds), str(record.get("device", "")), str(record.get("finished", "")))


class Forecast:
    """How long the runs of a study take, by its finished runs.

    Only runs of the device that finished the latest run count: another machine's seconds are no measure for this one.
    """

    def __init__(self, study: Study, measured: Mapping[str, Measured]) -> None:
        latest = max(measured.values(), key=lambda time: time.finished, default=None)
        self._sizes: dict[str, tuple[int, float] | None] = {}
        self._rates: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        for fingerprint, time in measured.items():
            run = study.by_fingerprint.get(fingerprint)
            work = None if run is None or latest is None or time.device != latest.device else self.work(run)
            if run is not None and work:
                for key in _alike(run):
                    self._rates[key].append(time.seconds / work)

    def seconds(self, run: Run) -> float | None:
        """Return how long a training takes; None while no run has finished or the task's size is not known."""
        work = self.work(run)
        rates = next((self._rates[key] for key in _alike(run) if key in self._rates), None)
        return work * statistics.fmean(rates) if work and rates else None

    def work(self, run: Run) -> float | None:
        """Return the work of a training, None if its task's size is not known."""
        if run.inputs.fingerprint not in self._sizes:
            self._sizes[run.inputs.fingerprint] = _size_of(run.inputs)
        if (size := self._sizes[run.inputs.fingerprint]) is None:
            return None
        rows, length = size
        settings, depth = run.method.settings, run.depth or ASSUMED_LAYERS
        examples = _seen(settings.select, rows)
        if settings.steps_per_epoch:
            examples = settings.steps_per_epoch * settings.batch_size
        return length * examples * (STEP * _layers_computed(run, depth) + FORWARD * depth)


def _seen(select: SelectParams, rows: int) -> int:
    """Return how many of a task's training examples a method sees, copies included."""
    keep = select.keep
    kept = rows if keep == "full" else min(rows, keep if isinstance(keep, int) else round(keep * rows))
    return kept * (1 + select.masked_copies)


def _alike(run: Run) -> list[tuple[Any, ...]]:
    """Return what makes runs take alike long, the most alike first."""
    method, depth = run.method.name, run.depth
    return [(run.task, method, *run.method.point.items()), (method, depth), (run.rule, depth), (run.rule,), ()]


def _layers_computed(run: Run, depth: int) -> float:
    """Return the student layers that are computed for each example, summed over epochs; each stage at its longest."""
    settings = run.method.settings
    stages = stages_of(settings.course, settings.classification, range(1, depth + 1), tuple(run.method.weights))
    layers, left = 0, epochs_of(stages, settings.epochs)
    for stage in stages:
        here = left if stage.last else min(stage.epochs or settings.epochs_per_layer, left)
        left -= here
        layers += here * (depth if stage.output_terms else max(stage.layers, default=depth))
    return layers


def _size_of(inputs: Inputs) -> tuple[int, float] | None:
    """Return training examples and their mean tokens: counted if they are encoded, else assumed; None if unknown."""
    try:
        train = read_mapping(inputs.marker)["splits"]["train"]
        # An image, or a sentence vector, counts as one token.
        return int(train["rows"]), train.get("tokens", train["rows"]) / train["rows"]
    except (UserError, KeyError, TypeError, ValueError, ZeroDivisionError):
        rows = known_rows(inputs.data)
        return (rows["train"], ASSUMED_FILLING * inputs.max_length or 1.0) if rows else None


def needed_downloads(needed: Iterable[Artefact]) -> str | None:
    """Return a line that names what has to be fetched from the hub, None if nothing has."""
    names: dict[str, list[str]] = {}
    for artefact in needed:
        if isinstance(artefact, Encoder) and artefact.encoder.source == "hub":
            names.setdefault(str(artefact.encoder.id), [])
        elif isinstance(artefact, Data) and artefact.hub is not None:
            names.setdefault(artefact.hub.repository, []).append(artefact.glue or artefact.name)
    if not names:
        return None
    shown = [f"{name} ({', '.join(sorted(parts))})" if parts else name for name, parts in sorted(names.items())]
    return f"to be downloaded: {', '.join(shown)}"


def needed_disk(study: Study, needed: Sequence[Artefact]) -> str | None:
    """Return a line with the bytes that the artefacts will take and what the disk has, None if that is little.

    Recordings count with every layer of what they may record, up to ``machine.disk_budget_gb`` each.
    """
    recordings = [artefact for artefact in needed if isinstance(artefact, Answers)]
    sizes = [model_bytes(run) for run in needed if isinstance(run, Run) and keeps_model(run, study)]
    parts = []
    if sizes:
        known = [size for size in sizes if size is not None]
        parts.append(f"{readable(sum(known))} of models" if len(known) == len(sizes) else "models of unknown size")
    if recordings:
        recorded = sum(_recorded_bytes(answers, 1e9 * study.params.machine.disk_budget_gb) for answers in recordings)
        parts.append(f"up to {readable(recorded)} of recorded answers")
    if not parts:
        return None
    free = shutil.disk_usage(Path()).free
    line = f"to be written: {', '.join(parts)}; the disk has {readable(free)} left"
    models = sum(size or 0 for size in sizes)
    return f"WARNING, too little disk: {line}" if models > free else line


def model_bytes(run: Run) -> int | None:
    """Return the bytes of a run's weights, None if its encoder has not been seen yet."""
    config, shape = config_of(run.encoder) if run.encoder else None, run.shape
    vocabulary = None if config is None else config.get("vocab_size")
    if config is None or not isinstance(vocabulary, int) or not (shape.layers and shape.width and shape.inner):
        return None
    width, inner = shape.width, shape.inner
    layer = 4 * width * (width + 1) + 2 * width * inner + inner + 5 * width
    rows = vocabulary + int(config.get("max_position_embeddings", 512)) + 4
    return BYTES_PER_WEIGHT * (rows * width + shape.layers * layer + width * (width + 1))


def _recorded_bytes(answers: Answers, budget: float) -> float:
    """Return the most bytes that a recording may take: the budget where a size is not known yet."""
    size = _size_of(answers.inputs)
    encoder = answers.inputs.encoder
    shape = answers.of[0].shape if isinstance(answers.of, tuple) else shape_of(encoder) if encoder else Shape()
    read = {kind for need in answers.needs for term in need.terms for kind in OBJECTIVES[term].teacher_kinds}
    stored = {part for kind in read for part in KINDS[kind].made_of or (kind,)}
    layered = any(KINDS[kind].by_layer for kind in stored)
    if size is None or (layered and not (shape.layers and shape.width and shape.heads)):
        return budget
    rows, tokens = size
    width, heads = shape.width or 0, shape.heads or 0
    axes = {"classes": 2, "width": width, "inner": width, "heads": heads, "tokens": tokens}
    each = sum(
        BYTES_PER_RECORDED
        * math.prod(axes[axis] for axis in KINDS[kind].axes)
        # Squares of lengths that vary are more than the square of their mean.
        * (SPREAD if KINDS[kind].axes.count("tokens") == 2 else 1.0)
        * ((shape.layers or 0) if KINDS[kind].by_layer else 1)
        for kind in stored
    )
    selects = {need.select for need in answers.needs}
    copies = max((select.masked_copies for select in selects), default=0)
    # At most: what one method sees, others may see too.
    seen = min(rows * (1 + copies), sum(_seen(select, rows) for select in selects))
    return min(budget, seen * each)


def readable(size: float) -> str:
    """Return bytes in the unit that people would choose."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
