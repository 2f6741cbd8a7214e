"""Timing on a machine that others use too: contestants take turns, so that a disturbance meets all of them alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Quartiles of fewer rounds say nothing; more rounds than this hardly move them.
LEAST_ROUNDS, MOST_ROUNDS = 5, 200

Contestant = Callable[[int], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one contestant over all rounds: median and quartiles, and its speed against the first one's.

    ``speed_up`` is the median over the rounds of the first contestant's time divided by this one's.
    """

    rounds: int
    median_ms: float
    low_ms: float
    high_ms: float
    speed_up: float


def take_turns(contestants: Sequence[Contestant], *, seconds: float) -> list[Timing]:
    """Time contestants round by round (A B C A B C ...), after one round that does not count.

    Args:
        contestants: called with the number of the round.
        seconds: rounds are added while they fit in; at least 5 are made.

    Returns:
        One timing for each contestant, in their order.
    """
    _round(contestants, 0)
    started = time.perf_counter()
    rounds: list[list[float]] = []
    while len(rounds) < LEAST_ROUNDS or (
        len(rounds) < MOST_ROUNDS and (time.perf_counter() - started) * (1 + 1 / len(rounds)) < seconds
    ):
        rounds.append(_round(contestants, len(rounds)))
    return summarise_rounds(np.array(rounds))


def summarise_rounds(milliseconds: np.ndarray) -> list[Timing]:
    """Return the timings of an array of shape (rounds, contestants), in milliseconds."""
    low, median, high = np.quantile(milliseconds, (0.25, 0.5, 0.75), axis=0)
    ratios = np.median(milliseconds[:, :1] / milliseconds, axis=0)
    return [
        Timing(len(milliseconds), *(float(values[k]) for values in (median, low, high, ratios)))
        for k in range(milliseconds.shape[1])
    ]


def _round(contestants: Sequence[Contestant], number: int) -> list[float]:
    taken = []
    for contestant in contestants:
        started = time.perf_counter()
        contestant(number)
        taken.append(1000 * (time.perf_counter() - started))
    return taken


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread and without gradients inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def machine_name() -> str:
    """Return the processor's name, its cores and the system: what a timing is worthless without."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0] if named else name
    return f"{name}, {os.cpu_count()} logical cores, {platform.system()} {platform.machine()}"


def versions_of(*packages: str) -> str:
    """Return ``torch 2.13.0+cpu, transformers 5.23.0`` and the like."""
    return ", ".join(f"{name} {version(name)}" for name in packages)
