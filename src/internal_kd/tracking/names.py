"""What runs, metrics and tags are called in MLflow, and which studies are still to be shown. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.files import read_mapping, remove, write_json, write_text
from internal_kd.plan.identity import WORK
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study

# Tags by which runs are found again.
MADE_BY = "made_by"
MAKER = "internal-kd"
IDENTITY = "identity"
LIVE = "live"
# The loss of every epoch: it shows which epochs a live run already has.
LOSS = "train/loss"
# Digits of scores; MLflow's tables show every digit that there is.
DIGITS = 4

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


def experiment_name(study: str, task: str) -> str:
    """Return ``<study>/<task>``."""
    return f"{study}/{task}"


def identity_of(run: Run) -> str:
    """Return what a run is recognised by: its fingerprint."""
    return f"run {run.fingerprint}"


def coordinates(run: Run) -> dict[str, str]:
    """Return what people look for a run by, as tags and parameters."""
    depth = {} if run.depth is None else {"depth": str(run.depth)}
    encoder = {"encoder": run.encoder.name} if run.encoder else {}
    known = {"task": run.task, **encoder, "method": run.method.name, "examples": run.examples}
    return {**known, "variant": run.method.variant, **depth}


def epoch_points(line: Mapping[str, Any], time: int) -> list[Point]:
    """Return what MLflow shows of one line of history.jsonl; what is null, text or not finite is left out.

    The part before the slash is the section in which MLflow's charts stand: ``train`` (losses, learning rate),
    ``dev`` (scores), the name of a layer term (by layer), ``speed``.
    """
    step = int(line["epoch"])
    return [Point(name, float(value), step, time) for name, value in _named(line) if is_finite(value)]


def is_finite(value: Any) -> bool:
    """Whether a value is a number that MLflow keeps as it is (it stores infinity as 1.8e308)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _named(line: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in line.items():
        if key == "epoch":
            continue
        if key.endswith(_BY_LAYER) and isinstance(value, dict):
            for layer, part in value.items():
                yield f"{key.removesuffix(_BY_LAYER)}/layer_{int(layer):02d}", part
        elif key.startswith(_DEV):
            yield f"dev/{key.removeprefix(_DEV)}", round(value, DIGITS) if is_finite(value) else value
        else:
            yield f"{'speed' if key in _SPEED else 'train'}/{key}", value


def announcement(study: Study) -> Path:
    """Return the file that exists while a study is to be shown and is not yet.

    It is no output of a rule: Snakemake removes those before their job starts, and a kill in that job would leave
    nothing to remember it by.
    """
    return WORK / "publishing" / f"{study.name}.txt"


def announce(study: Study) -> None:
    """Note that a study is to be shown; ``publish_runs`` does it too, and withdraws the note once it has shown it."""
    write_text(announcement(study), "not shown yet\n")


def is_announced(study: Study) -> bool:
    """Whether a study is to be shown and is not yet, for example because publishing was killed or nobody answered."""
    return announcement(study).is_file()


def withdraw(study: Study) -> None:
    """Note that a study is shown."""
    remove(announcement(study))


def links_of(study: Study) -> dict[str, str]:
    """Return the addresses at which a study was shown last, by experiment; empty if it was not shown yet."""
    try:
        return {str(name): str(link) for name, link in read_mapping(_links_path(study)).items()}
    except UserError:
        return {}


def remember_links(study: Study, links: Mapping[str, str]) -> bool:
    """Keep the addresses at which a study is shown, for its report; return whether they are new."""
    if links_of(study) == links:
        return False
    write_json(_links_path(study), dict(links))
    return True


def _links_path(study: Study) -> Path:
    return WORK / "publishing" / f"{study.name}.links.json"
