"""What runs cost: their work by a simple model, their time from what finished runs were measured to take.

Work is counted in parameters of encoder layers times tokens: once for a forward pass, three times for a training step
(forward, and backward towards activations and weights). Stages of a curriculum count the layers they compute, scoring
the dev set and recording a teacher count forward passes. Seconds are never guessed from hardware: a finished run says
how much work it did in a second and how long it took besides, and the runs most like the one asked for are believed
first. Without a finished run there are no seconds.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from internal_kd.artefacts import Run, StudentRun, TeacherOutputs
from internal_kd.distillation.curricula import stages_of
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.errors import UserError
from internal_kd.files import read_json
from internal_kd.identity import RUNS, WORK
from internal_kd.models.layers import layer_map
from internal_kd.operations.sizes import TaskSize, shape_of, size_of_task
from internal_kd.study import Study

FORWARD, STEP = 1, 3


@dataclass(frozen=True)
class Work:
    """A run's work: ``examples`` trained on, over all epochs; ``training`` on them, and ``scoring`` the dev set."""

    examples: int
    training: float
    scoring: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.training + self.scoring


@dataclass(frozen=True)
class Measured:
    """What a finished run says of its time. ``speed``: training examples per second, None where not recorded."""

    seconds: float
    speed: float | None
    device: str
    finished: str


@dataclass(frozen=True)
class _Rate:
    """Seconds of a run as an affine function of its work."""

    work_per_second: float
    besides: float

    def seconds(self, work: float) -> float:
        return work / self.work_per_second + self.besides


def read_measured(record: Mapping[str, Any]) -> Measured | None:
    """Return what a run.json says of time, or None where it says nothing that can be used."""
    try:
        seconds, speed = float(record["seconds"]), float(record.get("examples_per_second") or 0)
        device, finished = str(record.get("device", "")), str(record.get("finished", ""))
        return Measured(seconds, speed if speed > 0 else None, device, finished) if seconds > 0 else None
    except (KeyError, TypeError, ValueError):
        return None


def likeness(run: Run) -> list[tuple[Any, ...]]:
    """Return what a run's speed may be judged by, the closest first."""
    if not isinstance(run, StudentRun):
        return [(run.step, run.task), (run.step,), ()]
    step, task, depth, method = run.step, run.task, f"L{run.depth}", run.method.name
    return [
        (step, task, depth, method, run.examples), (step, task, depth, method), (step, depth, method),
        (step, task, depth), (step, method), (step, task), (step,), (),
    ]  # fmt: skip


class Forecast:
    """How long the runs of a study take, by the finished ones; without any of them by other studies' runs here.

    Only runs of the device that finished the latest run count: what another machine took says nothing about this one.

    Attributes:
        device: that device, None while nothing is measured.
        runs: how many finished runs the forecast stands on.
    """

    def __init__(self, study: Study, measured: Mapping[str, Measured]) -> None:
        """``measured`` holds the finished runs of the study, by fingerprint."""
        self._study = study
        self._shape = shape_of(next(iter(study.tasks.values())).encoder)
        known = [(study.by_fingerprint[fp], m) for fp, m in measured.items() if fp in study.by_fingerprint]
        rates = [(m, likeness(run), rate) for run, m in known if (rate := self._rate(self.work(run), m))]
        rates = rates or list(self._elsewhere())
        latest = max((m for m, _, _ in rates), key=lambda m: m.finished, default=None)
        self.device = None if latest is None else latest.device
        rates = [item for item in rates if item[0].device == self.device]
        self.runs = len(rates)
        self._rates: dict[tuple[Any, ...], list[_Rate]] = defaultdict(list)
        for _, keys, rate in rates:
            for key in keys:
                self._rates[key].append(rate)

    def seconds(self, run: Run) -> float | None:
        """Return how long a training takes; None while no run is measured or the task's size is not known."""
        work = self.work(run)
        rates = next((self._rates[key] for key in likeness(run) if key in self._rates), None)
        return statistics.fmean(rate.seconds(work.total) for rate in rates) if work and rates else None

    def recording_seconds(self, outputs: TeacherOutputs) -> float | None:
        """Return how long it takes to record a teacher; its own training is the best measure."""
        size = self.size(outputs.task)
        rates = next((self._rates[key] for key in likeness(outputs.teacher) if key in self._rates), None)
        if size is None or not rates:
            return None
        work = FORWARD * self._layers * self._per_layer * size.train * size.length
        return statistics.fmean(rate.seconds(work) for rate in rates)

    def work(self, run: Run) -> Work | None:
        """Return a run's work, None where its task's size is not known."""
        size = self.size(run.task)
        if size is None:
            return None
        if not isinstance(run, StudentRun):
            epochs = run.training.epochs  # type: ignore[attr-defined]
            examples = size.train * epochs
            return _work(size, examples, self._layers * examples, epochs, self._layers, self._per_layer)
        settings, method = run.method.settings, run.method
        per_layer = settings.epochs_per_layer
        layers, scored = climb(method.curriculum, method.classification, per_layer, settings.epochs, run.depth)
        examples = size.train if run.examples == "full" else min(run.examples, size.train)
        work = _work(size, examples * settings.epochs, layers * examples, scored, run.depth, self._per_layer)
        again = FORWARD * self._recomputed(run) * work.examples * size.length * self._per_layer
        return Work(work.examples, work.training + again, work.scoring)

    def size(self, task: str) -> TaskSize | None:
        """Return a task's size."""
        if task not in self._sizes:
            self._sizes[task] = size_of_task(self._study.tasks[task])
        return self._sizes[task]

    def attention_layers(self, outputs: TeacherOutputs) -> tuple[list[int], int] | None:
        """Return the teacher layers a task's students need and the bytes of one layer's maps; None where not known."""
        size = self.size(outputs.task)
        if size is None or self._shape is None:
            return None
        depth = self._shape.layers
        needed = sorted({layer for student, plan in outputs.needs for layer in layer_map(plan, depth, student)})
        return needed, int(2 * self._shape.heads * size.squares)

    def _recomputed(self, run: StudentRun) -> int:
        """Return the highest teacher layer computed anew in training, since its attention exceeds the disk budget."""
        reads = any(OBJECTIVES[term].reads == "attention" for term in run.method.layer_terms)
        if run.outputs is None or not reads or (found := self.attention_layers(run.outputs)) is None:
            return 0
        needed, each = found
        room = int(self._study.params.machine.disk_budget_gb * 1e9 // max(1, each))
        own = layer_map(run.method.settings.layer_map, self._layers, run.depth)
        return max((layer for layer in needed[: max(0, len(needed) - room)] if layer in own), default=0)

    def _rate(self, work: Work | None, measured: Measured) -> _Rate | None:
        if work is None or work.training <= 0:
            return None
        whole = work.total / measured.seconds
        if measured.speed is None:
            return _Rate(whole, 0.0)
        training, pure = work.examples / measured.speed, work.training * measured.speed / work.examples
        if training > measured.seconds:
            # Less than the training alone took: seconds that do not count the attempts before the last.
            return _Rate(pure, 0.0)
        # A speed that leaves no time for the scoring says that the scoring is quicker than it is counted.
        rate = max(pure, whole)
        return _Rate(rate, max(0.0, measured.seconds - work.total / rate))

    def _elsewhere(self) -> Iterable[tuple[Measured, list[tuple[Any, ...]], _Rate]]:
        """Yield the rates of other studies' runs: any encoder, by its parameters."""
        if self._shape is None:
            return
        sizes = {path.name.rsplit("-", 1)[-1]: path for path in (WORK / "tokens").glob("*-*")}
        for marker in sorted(RUNS.glob("**/run.json")):
            try:
                record = read_json(marker)
                params, manifest = record["params"], read_json(sizes[record["inputs"]["tokens"]] / "manifest.json")
                work = _recorded_work(record["encoder_parameters"], params, manifest["splits"])
                measured = read_measured(record)
                rate = self._rate(work, measured) if measured else None
            except (UserError, KeyError, TypeError, ValueError, AttributeError):
                continue
            if measured and rate:
                yield measured, [(record.get("step"),), ()], rate

    @cached_property
    def _sizes(self) -> dict[str, TaskSize | None]:
        return {}

    @cached_property
    def _layers(self) -> int:
        if self._shape is not None:
            return self._shape.layers
        return self._study.params.encoder.layers or max(self._study.params.study.depths)

    @property
    def _per_layer(self) -> int:
        return self._shape.per_layer if self._shape else 1


def climb(curriculum: str, classification: str, stay: int, epochs: int, depth: int) -> tuple[int, int]:
    """Return the student layers computed, summed over epochs, each stage at its longest, and the epochs scored."""
    layers = scored = 0
    left = epochs
    for stage in stages_of(curriculum, classification, depth):
        here = left if stage.last else min(stay, left)
        left -= here
        layers += (stage.highest_layer or depth) * here
        scored += here if stage.classification else 0
    return layers, scored


def _work(size: TaskSize, examples: int, layers: int, scored: int, depth: int, per_layer: int) -> Work:
    """``examples`` and the ``layers`` computed for them are sums over all epochs."""
    token = size.length * per_layer
    # The finished run is scored and its predictions are written once more.
    scoring = FORWARD * depth * (scored + 2) * size.dev * token
    return Work(examples, STEP * layers * token, scoring)


def _recorded_work(encoder_parameters: int, params: Mapping[str, Any], splits: Mapping[str, Any]) -> Work:
    """Return the work of a run from its record and the manifest of its tokens."""
    train = splits["train"]
    dev = sum(facts["rows"] for name, facts in splits.items() if name.startswith("dev"))
    size = TaskSize(train["rows"], dev, train["tokens"] / train["rows"], 0.0, "tokens")
    depth, epochs = params.get("depth"), params["epochs"]
    if depth is None:  # a teacher: all its parameters at once
        return _work(size, size.train * epochs, size.train * epochs, epochs, 1, encoder_parameters)
    curriculum, stay = params.get("curriculum", "all"), params.get("epochs_per_layer", 1)
    layers, scored = climb(curriculum, params.get("classification", "top"), stay, epochs, depth)
    examples = size.train if params["examples"] == "full" else min(params["examples"], size.train)
    return _work(size, examples * epochs, layers * examples, scored, depth, encoder_parameters // depth)
