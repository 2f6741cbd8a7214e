"""What was measured against what is wanted."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Found = dict[str, Any]
RECORDED_OVER = 10  # epochs over which the recording's time is spread


@dataclass(frozen=True)
class Ratio:
    """A ratio taken round by round: its median and its range."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


@dataclass(frozen=True)
class Target:
    """A figure, what it should be at most or at least, and whether it is."""

    what: str
    wanted: str
    figure: str
    reached: bool


def seconds(found: Found, name: str) -> list[float]:
    """Return seconds per example of each round, over all laps."""
    return [sum(r["laps"]) / (len(r["laps"]) * r["examples"]) for r in found[name]["rounds"]]


def with_recording(found: Found) -> list[float]:
    """Return seconds per example of row 3.3 with its share of the recording."""
    pairs = zip(seconds(found, "row_33"), seconds(found, "recording"), strict=True)
    return [own + recording / RECORDED_OVER for own, recording in pairs]


def whole_curriculum(found: Found, name: str, epochs: int, per_layer: int) -> list[float]:
    """Return seconds per example and epoch of a whole training, ``per_layer`` epochs a layer and the rest above."""
    made = []
    for one in found[name]["rounds"]:
        *climb, last = one["laps"]
        rest = epochs - per_layer * len(climb)
        made.append((per_layer * sum(climb) + rest * last) / (epochs * one["examples"]))
    return made


def ratio(above: list[float], below: list[float]) -> Ratio:
    """Divide round by round."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def targets(results: dict[str, Any]) -> list[Target]:
    """Compute every target that was measured; ``results`` as `bench.__main__` writes them."""
    found, promises, made = results["comparison"], results.get("promises"), []
    gpu = results["machine"]["gpu"]

    def add(
        what: str, sign: str, limit: float, value: Ratio | float, form: Callable[[float], str] = "{:.2f}".format
    ) -> None:
        median = value.median if isinstance(value, Ratio) else value
        reached = median <= limit if sign == "≤" else median >= limit
        figure = str(value) if isinstance(value, Ratio) else form(value)
        made.append(Target(what, f"{sign} {limit:g}", figure, reached))

    own = seconds(found, "row_33")
    add("step of row 3.3 / step of fine-tuning the same student", "≤", 1.15 if gpu else 1.25,
        ratio(own, seconds(found, "finetuned")))  # fmt: skip
    best = [name for name in ("textbrewer_best", "torchdistill_shipped", "torchdistill_best") if name in found]
    if best:
        peer = min((seconds(found, name) for name in best), key=statistics.median)
        all_in = with_recording(found)
        add(
            f"examples/s over the best peer, recording spread over {RECORDED_OVER} epochs",
            "≥",
            3.5,
            ratio(peer, all_in),
        )
        for name, title in (("textbrewer_shipped", "TextBrewer"), ("torchdistill_shipped", "torchdistill")):
            add(f"the same over {title} as shipped", "≥", 6.0, ratio(seconds(found, name), all_in))
    epochs, per_layer = results["curriculum"]["epochs"], results["curriculum"]["epochs_per_layer"]
    whole = whole_curriculum(found, "progressive", epochs, per_layer)
    add(f"whole progressive curriculum of {epochs} epochs / as many of row 3.3", "≤", 0.7, ratio(whole, own))
    if promises:
        runs = promises["planned_runs"]
        add(
            "memory of a training on 64,000 / on 8,000 examples, as many steps",
            "≤",
            1.1,
            promises["bytes_many"] / promises["bytes_few"],
        )
        add("`internal-kd --help`, seconds", "≤", 0.5, promises["help_seconds"])
        for title, name in (
            (f"`snakemake -n` of {runs:,} runs, seconds", "dry_run_seconds"),
            (
                "`snakemake -n --quiet`, which says how many of these runs are missing and describes no job, seconds",
                "counted_seconds",
            ),
            (f"`snakemake`, {runs:,} runs and nothing to do, seconds", "nothing_to_do_seconds"),
        ):
            add(title, "≤", 10, promises[name], "{:.1f}".format)
    return made
