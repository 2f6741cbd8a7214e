"""What was measured, compared with what was promised."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
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
    """A figure, its limit (``≤ 1.2``), and whether it is within it."""

    what: str
    limit: str
    figure: str
    reached: bool


def seconds(found: Found, name: str) -> list[float]:
    """Return seconds per example of each round, over all laps."""
    return [sum(r["laps"]) / (len(r["laps"]) * r["examples"]) for r in found[name]["rounds"]]


def with_recording(found: Found) -> list[float]:
    """Return seconds per example of row 3.3 with its share of the recording."""
    pairs = zip(seconds(found, "row_33"), seconds(found, "recording"), strict=True)
    return [own + recording / RECORDED_OVER for own, recording in pairs]


def complete_curriculum(found: Found, name: str, epochs: int, per_layer: int) -> list[float]:
    """Return seconds per example and epoch of a complete training, ``per_layer`` epochs a layer and the rest above."""
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


def by_objective(found: Found, turns: Sequence[str]) -> dict[str, Ratio]:
    """Return the step of soft labels with each objective over the step of soft labels alone.

    The first turn, soft labels too, is left out: memory that was returned while others ran is fetched again in it.
    """
    base = turns[0]
    laps: dict[str, list[float]] = {}
    for one in found["objectives"]["rounds"]:
        timed = list(zip(turns, one["laps"], strict=True))[1:]
        for name in dict.fromkeys(turns):
            laps.setdefault(name, []).append(statistics.mean(lap for turn, lap in timed if turn == name))
    return {name: ratio(own, laps[base]) for name, own in laps.items()}


def targets(results: dict[str, Any]) -> list[Target]:
    """Compute every target that was measured; ``results`` as `bench.__main__` writes them."""
    made: list[Target] = []
    if "comparison" in results:
        made += _of_steps(results["comparison"], results["curriculum"], on_gpu=results["machine"]["gpu"] is not None)
    if "objectives" in results:
        ratios = by_objective(results["objectives"], results["turns"])
        slowest = max(ratios, key=lambda name: ratios[name].median)
        what = f"step of soft labels with the slowest objective, `{slowest}` / of soft labels alone"
        made.append(_target(what, "≤", 1.35, ratios[slowest]))
    if "bf16" in results:
        made += _of_products(results["bf16"])
    return [*made, *(_of_promises(results["promises"]) if "promises" in results else ())]


def _target(
    what: str, sign: str, limit: float, value: Ratio | float, form: Callable[[float], str] = "{:.2f}".format
) -> Target:
    median = value.median if isinstance(value, Ratio) else value
    reached = median <= limit if sign == "≤" else median >= limit
    return Target(what, f"{sign} {limit:g}", str(value) if isinstance(value, Ratio) else form(value), reached)


def _of_steps(found: Found, curriculum: dict[str, int], on_gpu: bool) -> Iterator[Target]:
    own, tuned = seconds(found, "row_33"), seconds(found, "finetuned")
    fine_tuning = "step of fine-tuning the same student"
    yield _target(f"step of row 3.3 / {fine_tuning}", "≤", 1.15 if on_gpu else 1.2, ratio(own, tuned))
    hidden = ratio(seconds(found, "hidden"), tuned)
    yield _target(f"step with the hidden states of all layers / {fine_tuning}", "≤", 1.3, hidden)
    if best := [name for name in ("textbrewer_best", "torchdistill_shipped", "torchdistill_best") if name in found]:
        peer, all_in = min((seconds(found, name) for name in best), key=statistics.median), with_recording(found)
        spread = f"recording spread over {RECORDED_OVER} epochs"
        yield _target(f"examples/s over the best peer, {spread}", "≥", 3.5, ratio(peer, all_in))
        for name, title in (("textbrewer_shipped", "TextBrewer"), ("torchdistill_shipped", "torchdistill")):
            yield _target(f"the same over {title} as shipped", "≥", 6.0, ratio(seconds(found, name), all_in))
    epochs = curriculum["epochs"]
    complete = complete_curriculum(found, "progressive", epochs, curriculum["epochs_per_layer"])
    yield _target(
        f"complete progressive curriculum of {epochs} epochs / as many of row 3.3", "≤", 0.7, ratio(complete, own)
    )


def _of_products(found: Found) -> Iterator[Target]:
    """The rate of a step as a share of the rate of its products alone is the inverse ratio of their times."""
    products = seconds(found, "products_bf16")
    for name, title, limit in (("finetuned_bf16", "fine-tuning", 0.5), ("row_33_bf16", "row 3.3", 0.45)):
        share = ratio(products, seconds(found, name))
        yield _target(f"bf16: rate of {title} / of its matrix products alone", "≥", limit, share)


def _of_promises(promises: dict[str, Any]) -> Iterator[Target]:
    grown = promises["bytes_many"] / promises["bytes_few"]
    yield _target("memory of a training on 64,000 / on 8,000 examples, as many steps", "≤", 1.1, grown)
    yield _target("`internal-kd --help`, seconds", "≤", 0.3, promises["help_seconds"])
    for planned in promises["planning"]:
        runs, dry, nothing = planned["runs"], planned["dry_run_seconds"], planned["nothing_to_do_seconds"]
        limit = 6 if runs <= 200 else 10
        yield _target(f"`snakemake -n` of {runs:,} runs, seconds", "≤", limit, dry, "{:.1f}".format)
        yield _target(f"`snakemake`, {runs:,} runs and nothing to do, seconds", "≤", 5, nothing, "{:.1f}".format)
