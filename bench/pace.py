"""The clock inside a contestant: its training is held between rounds and goes on when it is its turn again."""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import torch


@dataclass(frozen=True)
class Round:
    """A round as a contestant reports it: seconds of each lap, examples and padded tokens of a lap, bytes held."""

    laps: list[float]
    examples: int
    padded: int
    peak_memory: int


class Pace:
    """Called as every step begins; measures laps of ``steps`` steps and waits at the end of a round for its turn.

    It waits for a line in ``orders``, which starts a round; the end of the lines ends the process. Answers go to
    ``answers``, one JSON object a line, the first one when the warm-up is over.
    """

    def __init__(self, orders: TextIO, answers: TextIO, warm_up: int, steps: int) -> None:
        self._orders, self._answers = orders, answers
        self._steps, self._laps = steps, 1
        self._left = warm_up
        self._warm = False
        self._loss: float | None = None
        self._times: list[float] = []
        self._examples = self._padded = 0
        self._began = 0.0

    def in_laps(self, laps: int) -> None:
        """Make a round of several laps, each of which is timed and has a warm-up of its own."""
        self._laps, self._left = laps, laps * self._left

    def first_loss(self, loss: float) -> None:
        """Keep the loss of the first common batch, computed without dropout."""
        self._loss = loss

    def tick(self, shape: torch.Size) -> None:
        """Begin a step on input ids of this shape (batch, length)."""
        if self._left == 0:
            self._end_lap()
        self._left -= 1
        self._examples += shape[0]
        self._padded += shape[0] * shape[1]

    def over(self, batches: list[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches again and again, each one the beginning of a step."""
        while True:
            for batch in batches:
                self.tick(batch["input_ids"].shape)
                yield batch

    def _end_lap(self) -> None:
        if self._warm:
            self._times.append(_now() - self._began)
        if not self._warm or len(self._times) == self._laps:
            self._wait()
        self._left, self._examples, self._padded = self._steps, 0, 0
        self._began = _now()

    def _wait(self) -> None:
        if self._warm:
            done = Round(self._times, self._examples, self._padded, _peak_memory())
            self._answer(asdict(done))
        else:
            self._answer({"loss": self._loss, "threads": torch.get_num_threads()})
        self._warm, self._times = True, []
        _give_memory_back()
        if not self._orders.readline():
            raise SystemExit(0)

    def _answer(self, values: object) -> None:
        self._answers.write(json.dumps(values) + "\n")
        self._answers.flush()


def device() -> torch.device:
    """Return the GPU if there is one."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _give_memory_back() -> None:
    """Return what is freed to the system: all contestants of a group are in memory at once."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc keeps it
        ctypes.CDLL(None).malloc_trim(0)


def process_memory() -> int:
    """Return the most bytes this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which a child inherits: it would start with what its parent held.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _peak_memory() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else process_memory()
