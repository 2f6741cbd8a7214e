"""What runs, metrics and tags are called in MLflow, the same for published and for live runs. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from internal_kd.artefacts import Run, StudentRun

# Tags by which runs are found again.
MADE_BY = "made_by"
MAKER = "internal-kd"
IDENTITY = "identity"
LIVE = "live"

# The loss of every epoch: what tells which epochs a live run already shows.
LOSS = "train/loss"

_SPEED = ("examples_per_second", "padded_per_real", "seconds")
_DEV = "dev_"
_BY_LAYER = "_by_layer"


@dataclass(frozen=True)
class Point:
    """One value of a metric; ``time`` in milliseconds since 1970."""

    name: str
    value: float
    step: int
    time: int


@dataclass(frozen=True)
class Opening:
    """What a live run is called before it has said anything; ``started`` in milliseconds since 1970."""

    uri: str
    experiment: str
    name: str
    started: int
    tags: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def experiment_name(study: str, task: str) -> str:
    """Return ``<study>/<task>``."""
    return f"{study}/{task}"


def identity_of(run: Run) -> str:
    """Return what a run is recognised by: its fingerprint."""
    return f"run {run.fingerprint}"


def coordinates(run: Run) -> dict[str, str]:
    """Return what people look for a run by, as tags or parameters; a teacher's depth is not known here."""
    known = {"task": run.task, "encoder": run.encoder.name}
    if isinstance(run, StudentRun):
        return known | {"method": run.method.name, "depth": str(run.depth), "examples": str(run.examples)}
    return known | {"method": "teacher", "examples": "full"}


def epoch_points(line: dict[str, Any], time: int) -> list[Point]:
    """Return what MLflow is to show of one line of history.jsonl; what is null, text or not finite is left out.

    The part before the slash is the section in which MLflow's charts stand: ``train`` (losses, learning rate),
    ``dev`` (scores), ``attention_kl`` and ``cls_cosine`` (by layer), ``speed``.
    """
    step = int(line["epoch"])
    return [Point(name, float(value), step, time) for name, value in _named(line) if is_finite(value)]


def is_finite(value: Any) -> bool:
    """Whether a value is a number that MLflow keeps as it is (it stores infinity as 1.8e308)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _named(line: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in line.items():
        if key == "epoch":
            continue
        if key.endswith(_BY_LAYER) and isinstance(value, dict):
            for layer, part in value.items():
                yield f"{key.removesuffix(_BY_LAYER)}/layer_{int(layer):02d}", part
        elif key.startswith(_DEV):
            yield f"dev/{key.removeprefix(_DEV)}", value
        else:
            yield f"{'speed' if key in _SPEED else 'train'}/{key}", value
